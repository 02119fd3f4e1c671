"""Lock the runtime folder while the service runs, and remove the service's sockets afterwards."""

import contextlib
import fcntl
import fnmatch
import stat
from collections.abc import Iterator
from pathlib import Path

from proto import host, requests
from proto.folder import Folder
from proto.mps_bus import MPS_BUS

URL_FILE = "exporter.url"
LOCAL_SOCKET = "exporter.sock"
MPS_FOLDER = "mps"
"""In the plugin's runtime folder: the runtime folder of the tree of the MPS daemons."""
KEEPERS_BUS = "keepers.ipc"
EXPORTER_FILES = (URL_FILE, LOCAL_SOCKET)


class BusyError(Exception):
    """The runtime folder cannot be used; the message is one line."""


@contextlib.contextmanager
def runtime_folder(path: Path) -> Iterator[None]:
    """Lock the runtime folder at *path*; at the end remove our sockets. Raises BusyError."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(Folder.private(path))
            lock = stack.enter_context(folder.own("lock"))
        except OSError as error:
            raise BusyError(f'cannot use the runtime folder "{path}": {error.strerror}') from error
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
            buses = ("health.ipc", "telemetry.ipc", KEEPERS_BUS)
            for name in (*buses, requests.SOCKET, *EXPORTER_FILES):
                folder.remove(name)


def remove_mps_bus(runtime_dir: Path) -> None:
    """Remove the socket of the MPS daemons' tree: nobody needs to listen to it any more."""
    with contextlib.suppress(OSError), Folder.existing(runtime_dir) as folder:
        folder.remove(MPS_BUS)


def remove_dead_sockets(path: Path) -> None:
    """Remove the sockets that killed workers left in the folder: no process listens on them."""
    with contextlib.suppress(OSError), Folder.existing(path) as folder:
        for name in fnmatch.filter(folder.names(), "nvidia-*.sock"):
            with contextlib.suppress(OSError):
                is_socket = stat.S_ISSOCK(folder.status(name).st_mode)
                if is_socket and not host.is_served(folder.at(name)):
                    folder.remove(name)
