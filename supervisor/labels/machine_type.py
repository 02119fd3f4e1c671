"""Read what kind of machine this is."""

from pathlib import Path

PRODUCT_NAME = "class/dmi/id/product_name"
"""Where the kernel shows below /sys the product name that the machine's firmware tells."""

MOST = 4096
"""Bytes read of the file."""


def machine_type(path: str) -> str:
    """Return the content of the file at *path*; empty if it cannot be read, or *path* is empty."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            return file.read(MOST).decode(errors="replace").strip()
    except (OSError, ValueError):
        return ""
