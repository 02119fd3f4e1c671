"""The file with labels that node feature discovery (NFD) reads, from the folder features.d.

Its format is that of NFD's source `local`: one KEY=VALUE a line, comments that begin with `#`, and
directives in comments. NFD ignores files whose name begins with a dot, and files over 64 kB.
https://kubernetes-sigs.github.io/node-feature-discovery/stable/usage/customization-guide.html
"""

import errno
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from proto.folder import Folder
from proto.safe_paths import UnsafeError

LIMIT = 64 << 10
"""Bytes of the longest file that NFD reads."""

READABLE, FOLDER = 0o644, 0o755
"""NFD's worker may run as another user."""


def text(labels: Mapping[str, str], expires: float | None) -> bytes:
    """Return the file's content; NFD ignores it from *expires* (unix time) on, None: never."""
    lines = ["# Written by gpu-sharing-plugin, which replaces it."]
    if expires is not None:
        until = datetime.fromtimestamp(int(expires), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines.append(f"# +expiry-time={until}")
    lines += [f"{key}={value}" for key, value in sorted(labels.items())]
    return "".join(f"{line}\n" for line in lines).encode()


def write(path: Path, content: bytes) -> None:
    """Replace the file at *path* so that NFD never finds a part of it; OSError if that fails.

    UnsafeError if another user could replace the file or its folder.
    """
    if len(content) > LIMIT:
        raise OSError(errno.EFBIG, f"the labels have {len(content)} bytes, NFD reads {LIMIT}")
    hidden = f".{path.name}"
    with Folder.made(path.parent, FOLDER) as folder:
        folder.write(hidden, content, READABLE)
        try:
            folder.rename(hidden, path.name)
        except OSError:
            folder.remove(hidden)
            raise


def trouble(path: str, error: OSError) -> str:
    """Return in words why the file at *path* cannot be written or removed, and what to do."""
    if isinstance(error, UnsafeError):
        return str(error)
    said = f'"{path}": {error.strerror or error}'
    if isinstance(error, PermissionError):
        return f"{said}; run this as the user of the service, such as root"
    return said


def remove(path: Path) -> bool:
    """Remove the file at *path*; return whether it was there. OSError as in `write`."""
    with Folder.existing(path.parent) as folder:
        there = path.name in folder.names()
        folder.remove(path.name)
        return there
