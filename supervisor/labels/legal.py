"""Texts that Kubernetes accepts in a label."""

import re

LIMIT = 63
"""Most characters of a label's value, and of its key after the slash."""

UNKNOWN = "unknown"
"""What NVIDIA's labels say in place of a text that nobody knows."""

_OTHERS = re.compile(r"[^A-Za-z0-9_. -]")


def value(text: str, suffix: str = "", most: int = LIMIT) -> str:
    """Return *text* as a label's value that ends in *suffix*; `unknown` if nothing is left of it.

    As in NVIDIA's labels, characters that are not allowed are dropped and spaces become one `-`. It
    begins and ends with a letter or digit, and has at most *most* characters, as Kubernetes wants.
    """
    return (part(text, most - len(suffix)) or UNKNOWN) + suffix


def part(text: str, most: int = LIMIT) -> str:
    """Return *text* as a label's value of at most *most* characters, perhaps the empty one."""
    joined = "-".join(_OTHERS.sub("", text).split())
    return joined.lstrip("-_.")[:most].rstrip("-_.")
