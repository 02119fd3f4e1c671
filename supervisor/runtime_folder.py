"""Lock the runtime folder while the service runs, and remove the service's sockets afterwards."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from proto import host, requests

URL_FILE = "exporter.url"
LOCAL_SOCKET = "exporter.sock"
EXPORTER_FILES = (URL_FILE, LOCAL_SOCKET)


class BusyError(Exception):
    """The runtime folder cannot be used; the message is one line."""


@contextlib.contextmanager
def runtime_folder(path: Path) -> Iterator[None]:
    """Lock the runtime folder at *path*; at the end remove our sockets. Raises BusyError."""
    try:
        host.make_private(path)
        lock = (path / "lock").open("w")
    except OSError as error:
        raise BusyError(f'cannot use the runtime folder "{path}": {error.strerror}') from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f'cannot use the runtime folder "{path}": another gpu-sharing-plugin uses it; '
                "stop the other service or pod first"
            ) from error
        try:
            yield
        finally:
            for name in (
                "health.ipc",
                "telemetry.ipc",
                requests.SOCKET,
                *EXPORTER_FILES,
            ):
                (path / name).unlink(missing_ok=True)


def remove_dead_sockets(folder: Path) -> None:
    """Remove the sockets that killed workers left in *folder*: no process listens on them."""
    for path in folder.glob("nvidia-*.sock"):
        with contextlib.suppress(OSError):
            if path.is_socket() and not host.is_served(str(path)):
                path.unlink()
