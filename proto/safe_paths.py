"""Follow paths that only root and we can change, one step at a time from the root folder on.

A user who can write to a folder on the way, or owns one, can put a link there, and make us write
elsewhere or run another program. Each step is relative to the descriptor of a folder that was
checked, so nobody can replace that folder between the check and its use.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path, PurePath

WRITABLE = stat.S_IWGRP | stat.S_IWOTH
"""Members of the group are other users. An access control list shows in the group's bits too."""

MOST_LINKS = 40
"""As in path_resolution(7)."""

ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = ENTRY | os.O_DIRECTORY


class UnsafeError(PermissionError):
    """Another user can change a path; `strerror` says how, and what to do about it."""

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(errno.EPERM, why, str(path))

    def __str__(self) -> str:
        return f'cannot use "{self.filename}": {self.strerror}'


def in_words(error: Exception) -> str:
    """Return an error in words; one of the system has a number in its own."""
    if isinstance(error, OSError) and error.filename and not isinstance(error, UnsafeError):
        return f'cannot use "{error.filename}": {error.strerror}'
    return str(error)


def open_folder(path: Path, make: int | None = None) -> int:
    """Return a descriptor (O_PATH) of the folder at *path*, which no other user can replace.

    With *make*, missing folders are created with this mode. UnsafeError if another user owns a
    folder or a link on the way, or can write to a folder above *path*. OSError if there is none.
    """
    found = _follow(path, make)
    if stat.S_ISDIR(os.fstat(found).st_mode):
        return found
    os.close(found)
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def require_safe_program(path: Path) -> None:
    """Raise UnsafeError if another user can change the program or library at *path*.

    OSError if it cannot be found.
    """
    found = _follow(path)
    try:
        mode = os.fstat(found).st_mode
        if mode & WRITABLE:
            name = _name(found)
            raise UnsafeError(path, f'other users can write to "{name}"; run chmod go-w "{name}"')
    finally:
        os.close(found)


def _follow(path: Path, make: int | None = None) -> int:
    """Return a descriptor (O_PATH) of the file or folder at *path*, after links."""
    to_go, links = [*reversed(path.absolute().parts)], 0
    here = os.open("/", FOLDER)
    try:
        while to_go:
            there = _step(here, to_go.pop(), path, make)
            try:
                _require_ours(there, path)
                if stat.S_ISLNK(os.fstat(there).st_mode):
                    links += 1
                    to_go += _target(there, links)
                else:
                    here, there = there, here
            finally:
                os.close(there)
    except OSError as error:
        os.close(here)
        error.filename = str(path)  # not the name of the step
        raise
    return here


def _step(here: int, name: str, path: Path, make: int | None) -> int:
    """Return a descriptor (O_PATH) of *name* in the folder *here*: of a link, not its target."""
    if name == "/":
        return os.open("/", FOLDER)
    mode = os.fstat(here).st_mode
    # In a folder with the sticky bit, such as /tmp, users can replace only their own files.
    if mode & WRITABLE and not mode & stat.S_ISVTX:
        folder = _name(here)
        raise UnsafeError(path, f'other users can write to "{folder}"; run chmod go-w "{folder}"')
    # As a folder first: that makes the kernel mount what is mounted on demand.
    with suppress(NotADirectoryError):
        try:
            return os.open(name, FOLDER, dir_fd=here)
        except FileNotFoundError:
            if make is None:
                raise
            with suppress(FileExistsError):
                os.mkdir(name, make, dir_fd=here)
            return os.open(name, FOLDER, dir_fd=here)
    return os.open(name, ENTRY, dir_fd=here)


def _target(link: int, number: int) -> list[str]:
    """Return the steps of a link's target, the last one first."""
    if number > MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return [*reversed(PurePath(os.readlink("", dir_fd=link)).parts)]


def _require_ours(found: int, path: Path) -> None:
    if os.fstat(found).st_uid not in {0, os.geteuid()}:
        raise UnsafeError(
            path, f'"{_name(found)}" belongs to another user; run chown on it, or use another path'
        )


def _name(found: int) -> str:
    """Return the path of an open file or folder, for people."""
    return str(Path(f"/proc/self/fd/{found}").readlink())
