"""Folders that only root and we can write to, used by their descriptor.

A folder is checked when it is opened. From then on it is used by its descriptor, so it stays the
folder that was checked, even if somebody moves it and puts another one in its place. Open it anew
for each use, and keep it open only as long as a socket in it: then each use checks it again.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self, cast

from proto.safe_paths import WRITABLE, UnsafeError, open_folder

OTHERS = stat.S_IRWXG | stat.S_IRWXO

PRIVATE = 0o700

PRIVATE_FILE = 0o600

ITSELF = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Flags to open what may be anything: not what a link points to, and without waiting for a pipe."""

MOST_BYTES = 16 << 20
"""Bytes of the longest file that is read."""


class Folder:
    """An open folder; `close` it, or use it in a `with` statement."""

    def __init__(self, path: Path, descriptor: int, check: Callable[[Self], None]) -> None:
        """Take over the *descriptor*; use `existing`, `made` or `private` instead."""
        self.path = path
        self._descriptor = descriptor
        try:
            check(self)
        except OSError:
            self.close()
            raise

    @classmethod
    def existing(cls, path: Path) -> Self:
        """Open the folder at *path*; UnsafeError if other users can write to it or replace it."""
        return cls(path, open_folder(path), cls._require_closed)

    @classmethod
    def made(cls, path: Path, mode: int) -> Self:
        """Open the folder at *path*; a missing one is created with *mode*. UnsafeError as above."""
        with contextlib.suppress(FileNotFoundError):
            return cls.existing(path)
        made = cls(path, open_folder(path, mode), cls._require_closed)
        os.chmod(made.at("."), mode)  # noqa: PTH101 - by descriptor; the umask took rights away
        return made

    @classmethod
    def private(cls, path: Path) -> Self:
        """Open the folder at *path*; create a missing one, close an empty one to other users.

        A folder with files stays readable: the path may be a mistake, such as /etc, and our own
        files have private modes anyway. UnsafeError as above, and if it has files of other users.
        """
        return cls(path, open_folder(path, PRIVATE), cls._make_private)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def at(self, name: str) -> str:
        """Return a path of the file *name*, for a bind or a library; valid while this is open."""
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def names(self) -> list[str]:
        """Return the names of the files."""
        return os.listdir(self.at("."))  # noqa: PTH208 - by descriptor, and only names

    def status(self, name: str) -> os.stat_result:
        """Return the status of the file *name*: of a link, not its target."""
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def read(self, name: str) -> bytes:
        """Return the content of the file *name*; UnsafeError if another user wrote it.

        OSError if it cannot be read, or is no regular file.
        """
        with self._open(name, os.O_RDONLY, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(self.path / name))
        return content

    def write(self, name: str, content: bytes, mode: int = PRIVATE_FILE) -> None:
        """Replace the file *name* in one step, so that readers never find a part of it."""
        new = Path(name).with_suffix(".new").name
        self.remove(new)
        # O_EXCL: a file that somebody puts there now is an error, and nothing is written to it.
        with self._open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb") as file:
            try:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                self.rename(new, name)
            except OSError as error:
                error.filename = error.filename or str(self.path / name)  # of a full disk: none
                self.remove(new)
                raise

    def own(self, name: str) -> BinaryIO:
        """Open the file *name* for a lock, and create it if it is missing; UnsafeError as `read`.

        A file that exists is not changed: it may be a hard link to another file.
        """
        return self._open(name, os.O_RDWR | os.O_CREAT, "r+b")

    def rename(self, old: str, new: str) -> None:
        """Give the file *old* the name *new*, in place of any file of this name."""
        os.replace(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Remove the file *name* if it exists."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def _open(self, name: str, flags: int, how: str) -> BinaryIO:
        path = self.path / name
        try:
            found = os.open(name, flags | ITSELF, PRIVATE_FILE, dir_fd=self._descriptor)
        except OSError as error:
            error.filename = str(path)  # not the name alone
            raise
        try:
            _require_our_file(os.fstat(found), path)
            return cast("BinaryIO", os.fdopen(found, how))
        except OSError:
            os.close(found)
            raise

    def _mode(self) -> int:
        return os.fstat(self._descriptor).st_mode

    def _require_closed(self) -> None:
        if self._mode() & WRITABLE:
            raise UnsafeError(
                self.path, "other users can write to it; remove it, or run chmod go-w on it"
            )

    def _make_private(self) -> None:
        if self._mode() & OTHERS and not self.names():
            # Such as a Kubernetes emptyDir, which every user can write to.
            os.chmod(self.at("."), PRIVATE)  # noqa: PTH101 - by descriptor
            # Only now nobody else can write: what is there was put there in between.
            if names := self.names():
                raise UnsafeError(
                    self.path, f'another user has just put "{names[0]}" into it; remove the folder'
                )
        self._require_closed()
        for name in self.names():
            with contextlib.suppress(FileNotFoundError):
                if self.status(name).st_uid not in {0, os.geteuid()}:
                    raise UnsafeError(
                        self.path, f'"{name}" in it belongs to another user; remove that file'
                    )


def _require_our_file(found: os.stat_result, path: Path) -> None:
    if found.st_uid not in {0, os.geteuid()}:
        raise UnsafeError(path, "it belongs to another user; remove it")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
