"""The MPS control program of a simulated node: the simulator's, unless another one is given."""

from pathlib import Path

from proto.folder import Folder
from simulator.live_node import LIVE_FILE
from simulator.mps.program import NAME, write_program
from simulator.node import NodeError
from supervisor.config.settings import Settings


def program(settings: Settings) -> str:
    """Return the path of the control program that the settings ask for; empty: NVIDIA's."""
    given = settings.service.mps_control_path
    # Not in the runtime folder: on many hosts nothing in /run can be executed.
    return given if given or settings.node is None else f"{settings.service.state_dir}/{NAME}"


def prepare(settings: Settings) -> None:
    """Create the program of a simulated node; NodeError if that fails."""
    if settings.node is None or settings.service.mps_control_path:
        return
    path = Path(program(settings))
    try:
        Folder.private(path.parent).close()
        write_program(path, node=str(Path(settings.service.runtime_dir) / LIVE_FILE))
    except OSError as error:
        raise NodeError(
            f'cannot create the simulated MPS control program "{path}": '
            f"{error.strerror or error}; use another --state-dir"
        ) from error
