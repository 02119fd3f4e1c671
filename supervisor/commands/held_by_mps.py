"""What the command `quiesce` adds: which MPS daemons hold the driver still, and for whom."""

import select
import time
from collections.abc import Iterator
from pathlib import Path

from proto.mps import STOPPED, Phase
from supervisor.commands.ask import AskError
from supervisor.commands.printing import say
from supervisor.commands.show_status import newest
from supervisor.status import mps_wording as wording
from supervisor.status.mps_report import MpsStatus
from supervisor.status.report import Status

PATIENCE = 10.0
"""Seconds to wait for the end of the daemons that have no clients."""

PAUSE = 0.1
"""Seconds between two looks at the status."""

SHOWN = 8
"""Most clients of a daemon that are named."""


def main(runtime_folder: Path) -> None:
    """Wait for the end of the daemons without clients; print a line for each that is left.

    Print nothing without MPS, or if the service does not tell.
    """
    end = time.monotonic() + PATIENCE
    try:
        status = newest(runtime_folder)
        while any(map(_is_ending, _shared(status))) and time.monotonic() < end:
            select.poll().poll(PAUSE * 1000)
            status = newest(runtime_folder)
    except AskError:
        return  # quiesce itself is done
    say(*lines(status))


def _shared(status: Status) -> Iterator[MpsStatus]:
    return (mps for gpu in status.gpus or () for _, _, mps in wording.shared(gpu))


def _is_ending(mps: MpsStatus) -> bool:
    """Return whether a daemon can be expected to end soon."""
    return mps.phase is not None and not mps.clients and mps.detail != STOPPED


def lines(status: Status) -> Iterator[str]:
    """Yield a line for each MPS daemon that runs, or may run."""
    for gpu in status.gpus or ():
        for name, _, mps in wording.shared(gpu):
            if mps.phase is None:
                yield f"GPU {name} may be held by an MPS daemon: gpu-sharing-plugin mps is silent"
            elif mps.clients:
                named = [f"{wording.whose(c)}: {wording.process(c)}" for c in mps.clients[:SHOWN]]
                more = len(mps.clients) - SHOWN
                users = ", ".join([*named, f"and {more} more"] if more > 0 else named)
                yield f"GPU {name} is held by its MPS daemon for {users}; end them first"
            elif mps.pid or mps.server_pid:
                yield (
                    f"GPU {name} is held by its MPS daemon, without clients; "
                    "stop gpu-sharing-plugin mps on this node"
                )
            elif mps.phase is Phase.FAILED:  # one that its keeper cannot adopt
                yield f"GPU {name} may be held by an MPS daemon: {mps.detail}"
