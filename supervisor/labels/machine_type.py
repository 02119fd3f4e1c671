"""Read what kind of machine this is."""

from pathlib import Path

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
