"""Find nvidia-cuda-mps-control, and make the environment that it gets: nothing is inherited."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from health import device_nodes
from health.binding import LIBRARY_FOLDERS
from proto.keeper import KeeperSettings
from proto.mps import log_folder, pipe_folder
from proto.safe_paths import require_safe_program
from supervisor.mps.daemon import DEVICES, LOGS, NAME, PIPE

FOLDERS = ("usr/bin", "usr/local/bin", "bin")
"""Where it is below a driver's root."""

SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

LIBRARY = "libcuda.so.1"
"""What it loads of the driver."""


class ProgramError(Exception):
    """The program cannot be used; the message says why, and what to do."""


def find(settings: KeeperSettings) -> str:
    """Return the path of the program; ProgramError if there is none that is safe to run."""
    unsafe = None
    for path in _places(settings):
        try:
            require_safe_program(Path(path))
        except OSError as error:
            unsafe = unsafe or error
        else:
            return path
    if unsafe:
        raise ProgramError(str(unsafe))
    if os.path.isfile(settings.program):  # noqa: PTH113 - a folder may not be readable
        raise ProgramError(
            f'cannot run "{settings.program}": it is not executable; run chmod +x on it'
        )
    where = settings.program or f"on the PATH or below {_root(settings)}"
    raise ProgramError(
        f"cannot find {NAME}: it is not {where}; "
        "give the container the driver capability compute, or set --mps-control-path"
    )


def _places(settings: KeeperSettings) -> Iterator[str]:
    root = _root(settings)
    below = [os.path.join(root, folder, NAME) for folder in FOLDERS]  # noqa: PTH118
    names = [settings.program] if settings.program else [NAME, *below]
    for found in filter(None, map(shutil.which, names)):
        yield os.path.abspath(found)  # noqa: PTH100 - programs are run in the root folder


def _root(settings: KeeperSettings) -> str:
    return str(device_nodes.root_of([Path(root) for root in settings.driver_roots]))


def environment(settings: KeeperSettings, program: str) -> dict[str, str]:
    """Return the environment of a shell; UnsafeError if another user can change the driver."""
    found = {
        "PATH": f"{Path(program).parent}:{SEARCHED}",  # for nvidia-cuda-mps-server
        PIPE: pipe_folder(settings.root, settings.uuid),
        LOGS: log_folder(settings.root, settings.uuid),
    }
    if libraries := _libraries(_root(settings), program):
        found["LD_LIBRARY_PATH"] = ":".join(libraries)
    return found


def of_daemon(settings: KeeperSettings, program: str) -> dict[str, str]:
    """Return the environment of the daemon, which sees the one device only."""
    return {**environment(settings, program), DEVICES: settings.uuid}


def _libraries(root: str, program: str) -> list[str]:
    """Return the library folders of a program below a driver's root that is mounted here."""
    if not root.strip("/") or not Path(program).is_relative_to(root):
        return []
    folders = [Path(root, folder) for folder in LIBRARY_FOLDERS]
    found = [folder for folder in folders if os.path.exists(folder / LIBRARY)]  # noqa: PTH110
    for folder in found:
        require_safe_program(folder / LIBRARY)
    return [str(folder) for folder in found]
