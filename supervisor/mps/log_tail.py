"""Follow the log of an MPS daemon, and pass it on to our log, line by line and not too fast."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from inotify_simple import INotify, flags
from loguru import logger

from proto.folder import Folder
from supervisor.mps import log_lines
from supervisor.mps.log_lines import Line, Told

OUTPUT = "output.log"
"""What the daemon writes to its output, which is everything with `-f`."""

NAMES = (OUTPUT, "control.log", "server.log")
"""The others are the daemon's own, if a version of it writes them with `-f` too."""

AT_FIRST, A_SECOND = 200, 20
"""Lines that are passed on at once, as at a start, and then in a second.

A server with a fault writes many lines for each client, and a client can write what it wants.
"""

AT_ONCE = 256 << 10
"""Bytes that are read of a file at a time."""

LARGEST = 4 << 20
"""Bytes from which on a file is moved to `.1`."""

TOO_LARGE = 4 * LARGEST
"""Bytes from which on it is emptied at once, and not kept: somebody floods it.

Not with RLIMIT_FSIZE, which would also be the limit of the shared memory of servers; and not with a
pipe, whose end with its reader would be the end of the daemon.
"""

ROOM = 1 << 16
"""Bytes that must be free for the log of a new daemon."""

NEWS = flags.MODIFY | flags.CREATE | flags.MOVED_TO


class Follower:
    """Reads what is new in a file, whatever becomes of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._at = 0
        self._begun = b""

    def lines(self) -> list[str]:
        """Return the lines that are new, at most so many at a time; OSError if a disk fails."""
        if self._file < 0 and not self._open():
            return []
        found = os.fstat(self._file)
        if found.st_size < self._at:  # somebody has emptied it
            self._at, self._begun = 0, b""
        data = os.pread(self._file, AT_ONCE, self._at)
        self._at += len(data)
        if not data and self._replaced(found):
            self.close()
            return self.lines() if self._open() else []
        *whole, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > AT_ONCE:
            self._begun = b""
        return [line.decode(errors="replace") for line in whole]

    def skip(self) -> None:
        """Begin near the end of a long file."""
        if self._file >= 0 or self._open():
            self._at, self._begun = max(0, self._size() - AT_ONCE), b""

    def bound(self) -> None:
        """Keep a long file as `.1`, and empty it: the daemon goes on writing at its end."""
        size = self._size()
        if LARGEST < size <= TOO_LARGE:
            with contextlib.suppress(OSError):  # a full disk: then it is only emptied
                self._keep(size)
            self._empty()

    def stem(self) -> None:
        """Empty a file that is flooded."""
        if self._size() > TOO_LARGE:
            self._empty()

    def _keep(self, size: int) -> None:
        """Copy so many bytes: it may grow faster than it is copied."""
        mode = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(f"{self.path}.1", mode, 0o640)
        try:
            at = 0
            while at < size and (sent := os.sendfile(copy, self._file, at, size - at)):
                at += sent
        finally:
            os.close(copy)

    def _size(self) -> int:
        return os.fstat(self._file).st_size if self._file >= 0 else 0

    def _empty(self) -> None:
        # Not by its path: the daemon writes on to a file that was deleted or moved, too.
        os.truncate(f"/proc/self/fd/{self._file}", 0)
        self._at, self._begun = 0, b""

    def close(self) -> None:
        """Close the file; a later read begins at the start of the file that is there then."""
        if self._file >= 0:
            os.close(self._file)
        self._file, self._at, self._begun = -1, 0, b""

    def _open(self) -> bool:
        with contextlib.suppress(OSError):
            self._file = _opened(self.path)
        return self._file >= 0

    def _replaced(self, found: os.stat_result) -> bool:
        try:
            now = self.path.lstat()
        except OSError:
            return False
        other = (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino)
        return other and stat.S_ISREG(now.st_mode)


def _opened(path: Path) -> int:
    """Return a descriptor of the file at *path*; OSError, also if it is no file.

    Such as a pipe, which would never be read to its end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


class LogTail:
    """The log of the daemon of one device."""

    def __init__(self, folder: str, uuid: str) -> None:
        """Follow the files in *folder*, which exists."""
        self.told = Told()
        self._uuid = uuid
        self._folder = Path(folder)
        self._files = [Follower(self._folder / name) for name in NAMES]
        self._left = AT_FIRST
        self._left_out = 0
        self._notice: INotify | None = None
        try:
            self._notice = INotify(nonblocking=True)
            self._watch()
        except OSError as error:  # the node's inotify instances or watches are used up
            logger.warning(
                "cannot use inotify for an MPS daemon's log, reading it every second",
                uuid=uuid,
                error=str(error),
            )

    def _watch(self) -> None:
        if self._notice:
            self._notice.add_watch(str(self._folder), NEWS)

    def fileno(self) -> int:
        """Return the descriptor that can be read when there is something new; -1: there is none.

        Then `each_second` and `read`, called once a second, notice it.
        """
        return int(self._notice.fileno()) if self._notice else -1

    def close(self) -> None:
        """Stop following."""
        for file in self._files:
            file.close()
        if self._notice:
            self._notice.close()

    def fresh(self) -> int:
        """Keep the files of the last daemon as `.1`; return a descriptor for a new one's output."""
        for file in self._files:
            file.close()
        self.told = Told()
        with contextlib.suppress(OSError):  # as above; once a second is enough
            self._watch()  # the folder may be a new one
        with Folder.existing(self._folder) as folder:
            for name in NAMES:
                with contextlib.suppress(FileNotFoundError):
                    folder.rename(name, f"{name}.1")
            mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            output = os.open(folder.at(OUTPUT), mode, 0o640)
        try:
            # A daemon that cannot write would only end with a number.
            os.posix_fallocate(output, 0, ROOM)
            os.ftruncate(output, 0)
        except OSError as error:
            os.close(output)
            error.filename = str(self._folder / OUTPUT)
            raise
        return output

    def catch_up(self) -> None:
        """Read what an adopted daemon has logged, without passing it on again."""
        for file in self._files:
            file.skip()
        for text in self._lines():
            self.told = log_lines.after(self.told, log_lines.parsed(text))

    def read(self) -> bool:
        """Pass on what is new; return whether it calls for a look at the daemon."""
        if self._notice:
            with contextlib.suppress(BlockingIOError):
                self._notice.read(timeout=0)
        for file in self._files:
            with contextlib.suppress(OSError):
                file.stem()
        calling = False
        for text in self._lines():
            line = log_lines.parsed(text)
            if log_lines.shown(self.told, line):
                self._pass_on(line)
            self.told = log_lines.after(self.told, line)
            calling |= log_lines.calls(line)
        return calling

    def _lines(self) -> list[str]:
        """Return what is new, once: a client that writes on and on must not hold up the keeper."""
        found: list[str] = []
        for file in self._files:
            with contextlib.suppress(OSError):  # a disk that fails: ask the daemon all the same
                found += file.lines()
        return found

    def each_second(self) -> None:
        """Let the next lines through, and keep the files short."""
        if self._left_out:
            logger.warning(
                "left out lines of an MPS daemon's log", uuid=self._uuid, lines=self._left_out
            )
        self._left, self._left_out = min(self._left + A_SECOND, AT_FIRST), 0
        for file in self._files:
            with contextlib.suppress(OSError):  # a full disk, for example
                file.bound()

    def last_words(self) -> str:
        """Return the last line that a daemon wrote which did not start; empty: none."""
        with contextlib.suppress(OSError):
            with os.fdopen(_opened(self._folder / OUTPUT), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - AT_ONCE))
                lines = file.read(AT_ONCE).decode(errors="replace").splitlines()
            texts = [log_lines.parsed(line).text.strip() for line in lines]
            return next((text for text in reversed(texts) if text), "")
        return ""

    def _pass_on(self, line: Line) -> None:
        if self._left <= 0:
            self._left_out += 1
            return
        self._left -= 1
        logger.info(
            "an MPS daemon logged a line",
            uuid=self._uuid,
            by=line.who,
            pid=line.pid,
            text=line.text,
        )
