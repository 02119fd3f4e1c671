"""Resource names: which are valid, and which name a device gets by its model or profile."""

import re
from collections.abc import Iterable

from supervisor.config.file_schema import Pattern

DOMAIN = "nvidia.com/"
LIMIT = 63
"""Most characters of a resource name, including its domain."""
SHARED = ".shared"
"""The suffix that renameByDefault adds."""

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = re.compile(rf"{LABEL}(\.{LABEL})*")
"""What the kubelet requires after the domain: a DNS-1123 subdomain."""


MIG = re.compile(r"mig-[0-9a-zA-Z.]+([+][a-zA-Z.]+)+")
"""A MIG profile as nvidia-smi prints it, with the prefix of its resource."""


def full(name: str) -> str:
    """Return a resource name with its domain; ValueError if the kubelet would refuse it."""
    complete = name if name.startswith(DOMAIN) else DOMAIN + name
    if len(complete) > LIMIT:
        raise ValueError(f'"{complete}" has {len(complete)} characters; write at most {LIMIT}')
    if not SUBDOMAIN.fullmatch(complete.removeprefix(DOMAIN)):
        if MIG.fullmatch(complete.removeprefix(DOMAIN)):
            told = name.replace("+", ".").lower()
            raise ValueError(f'"{complete}" is not a resource name; write {told}')
        raise ValueError(
            f'"{complete}" is not a resource name; after {DOMAIN} write lower-case letters, '
            "digits, '-' and '.', and begin and end with a letter or digit"
        )
    return complete


def matches(pattern: str, text: str) -> bool:
    """Return whether *pattern*, in which `*` matches anything, matches the whole *text*."""
    # Not a regular expression: with many stars it would block the supervisor for years.
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


def by_pattern(patterns: Iterable[Pattern], *texts: str) -> str | None:
    """Return the resource name of the first pattern that matches a text; None if none does."""
    found = (p.name for p in patterns if any(matches(p.pattern, text) for text in texts))
    return next(found, None)


def of_profile(profile: str) -> str:
    """Return the resource name of a MIG profile: `1g.10gb+me` is mig-1g.10gb.me.

    A profile that is unknown or gives no valid name is mig-unknown.
    """
    try:
        return full(f"mig-{profile.replace('+', '.').lower()}")
    except ValueError:
        return full("mig-unknown")
