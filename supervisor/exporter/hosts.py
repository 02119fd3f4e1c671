"""Which hosts a request may name: a page of another site must not read from us (DNS rebinding).

Such a page makes its own name resolve to our address. The browser then takes our answers for the
page's own, but its requests still have the page's name as their host.
"""

import ipaddress
import re
from collections.abc import Collection

ANY = "*"

_PORT = re.compile(r":\d*$")


def is_ours(host: str, names: Collection[str]) -> bool:
    """Return whether *host*, a Host header, is an IP address, localhost or one of our *names*.

    A name that begins with `*.` stands for all names below it, and `*` for all names. No host is
    fine: every browser sends one.
    """
    name = _PORT.sub("", host.strip()).removesuffix(".").lower()
    if not host or name == "localhost" or ANY in names or _is_address(name):
        return True
    return any(_matches(name, allowed.lower().removesuffix(".")) for allowed in names)


def _matches(name: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return name.endswith(allowed[1:]) and name != allowed[1:]
    return bool(allowed) and name == allowed


def _is_address(name: str) -> bool:
    # A scope is no part of a URL's host, and Python takes any text for one: fe80::1%evil.example.
    if "%" in name:
        return False
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
