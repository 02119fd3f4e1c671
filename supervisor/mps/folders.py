"""The folders of a daemon below the root of the MPS daemons."""

import ctypes
import fcntl
import os
import stat
from pathlib import Path

from proto.folder import Folder
from proto.keeper import KeeperSettings
from proto.mps import PIPE_PATH_LIMIT, UNREACHABLE, log_folder, pipe_folder, shm_folder

OPEN = 0o755
"""For all users: clients of any user connect to the daemon."""

SHARED = 0o1777
"""As /dev/shm has."""

SELINUX = "/sys/fs/selinux"
LABEL = b"system_u:object_r:container_file_t:s0\0"
"""What containers may use, as NVIDIA's plugin labels the folder."""

MOUNT_FLAGS = 2 | 4 | 8
"""MS_NOSUID, MS_NODEV and MS_NOEXEC of linux/mount.h."""


class FolderError(Exception):
    """A folder cannot be used; the message says why, and what to do."""


def prepare(settings: KeeperSettings) -> None:
    """Make the folders of a daemon; FolderError or OSError if clients could not use them."""
    pipe = pipe_folder(settings.root, settings.uuid)
    if len(pipe.encode()) > PIPE_PATH_LIMIT:
        raise FolderError(
            f'cannot use "{pipe}" for the sockets of the MPS daemon: it has more than '
            f"{PIPE_PATH_LIMIT} bytes; set a shorter --mps-root"
        )
    made_root(Path(settings.root)).close()
    for path in (Path(pipe).parent, Path(pipe)):
        Folder.made(path, OPEN).close()
    Folder.made(Path(log_folder(settings.root, settings.uuid)), OPEN).close()
    require_reachable(pipe)
    if os.path.isdir(SELINUX):  # noqa: PTH112 - it may not be readable
        with Folder.existing(Path(pipe)) as folder:
            os.setxattr(folder.at("."), "security.selinux", LABEL)


def made_root(root: Path) -> Folder:
    """Open the root of all daemons; create it, and what is missing above it. OSError as `Folder`.

    Other users can enter all that is created.
    """
    for above in reversed(root.parents):
        if not above.exists():
            Folder.made(above, OPEN).close()
    return Folder.made(root, OPEN)


def require_reachable(path: str) -> None:
    """Raise FolderError if other users cannot reach *path*: clients are of any user."""
    resolved = Path(path).resolve()
    for folder in (*reversed(resolved.parents), resolved):
        if not folder.stat().st_mode & stat.S_IXOTH:
            raise FolderError(
                f'{UNREACHABLE}cannot let clients of other users reach "{path}"; '
                f'run chmod o+x "{folder}", or set another --mps-root'
            )


def share_memory(root: str, *, mounts: bool) -> str:
    """Mount the folder that is /dev/shm for all clients, unless it is mounted already.

    Return why it cannot be mounted; empty: it is mounted, or another keeper mounts it now. Without
    the mount, as on a simulated node, it is a plain folder, which is as good but for the limit of
    its size.
    """
    with Folder.made(Path(root), OPEN) as above, above.own("shm.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
        name = Path(shm_folder(root)).name
        path = Path(above.at(name))
        path.mkdir(exist_ok=True)
        found = above.status(name)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
            return "it is not a folder of ours; remove it"
        if found.st_dev != above.status(".").st_dev:
            return ""  # never mounted anew: clients that run would keep the former one
        refused = _mount(path) if mounts else ""
        if refused or not mounts:
            path.chmod(SHARED)
        return refused


def _mount(path: Path) -> str:
    """Mount a tmpfs with half of the machine's memory; return why that fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    options = f"mode={SHARED:o},size={half}".encode()
    if libc.mount(b"shm", bytes(path), b"tmpfs", MOUNT_FLAGS, options) == 0:
        return ""
    return os.strerror(ctypes.get_errno())
