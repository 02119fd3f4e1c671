"""Resource names: what is allowed, and which a device gets by its model or profile."""

import re
from collections.abc import Iterable

from supervisor.config.file_schema import Pattern

DOMAIN = "nvidia.com/"
LIMIT = 63
"""Characters of a resource name, its domain included."""
SHARED = ".shared"
"""The suffix that renameByDefault gives."""

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = re.compile(rf"{LABEL}(\.{LABEL})*")
"""What the kubelet wants behind the domain: a DNS-1123 subdomain."""


def full(name: str) -> str:
    """Return a resource name with its domain; ValueError if the kubelet would not take it."""
    complete = name if name.startswith(DOMAIN) else DOMAIN + name
    if len(complete) > LIMIT:
        raise ValueError(f'"{complete}" has {len(complete)} characters; write at most {LIMIT}')
    if not SUBDOMAIN.fullmatch(complete.removeprefix(DOMAIN)):
        raise ValueError(
            f'"{complete}" is not a resource name; after {DOMAIN} write lower-case letters, '
            "digits, '-' and '.', and begin and end with a letter or digit"
        )
    return complete


def matches(pattern: str, text: str) -> bool:
    """Return whether *pattern*, in which `*` stands for anything, describes all of *text*."""
    # Not a regular expression: with many stars it would look for years, in the supervisor.
    first, *parts = pattern.split("*")
    if not parts:
        return text == pattern
    last, place = parts.pop(), len(first)
    for part in parts:
        found = text.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return text.startswith(first) and text[place:].endswith(last)


def by_pattern(patterns: Iterable[Pattern], text: str) -> str | None:
    """Return the name of the first pattern that matches *text*."""
    found = (one.name for one in patterns if matches(one.pattern, text))
    return next(found, None)


def of_profile(profile: str) -> str:
    """Return the resource name of a MIG profile: `1g.10gb+me` is mig-1g.10gb.me.

    One that the driver does not tell, or that makes no name, is mig-unknown.
    """
    try:
        return full(f"mig-{profile.replace('+', '.').lower()}")
    except ValueError:
        return full("mig-unknown")
