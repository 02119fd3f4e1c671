"""The kernel log and NVML as two witnesses of the monitor, through the C library."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proto.messages import NodeState, XidCount
from proto.monitor import MonitorSettings
from proto.paths import Paths
from tests.fakes.monitor import Monitor, monitor
from tests.fakes.nvml_library import Steering

UUIDS = [f"GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1{place:03d}" for place in range(2)]
PCI = "0000:0a:00"
"""The address of the second GPU."""

HARMLESS = "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008)"
FATAL = "NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)"


@pytest.fixture
def log(folder: Path) -> Path:
    """Return the path of a fifo for the kernel log."""
    os.mkfifo(folder / "kmsg")
    return folder / "kmsg"


@contextlib.contextmanager
def watching(folder: Path, library: Path, log: Path) -> Iterator[Monitor]:
    """Run a monitor that reads the kernel log *log*, until both GPUs are watched."""
    settings = MonitorSettings(
        Paths(f"{folder}/health.ipc", f"{folder}/telemetry.ipc", "", str(folder)),
        binding="health.binding",
        binding_argument="/",
        poll_interval=0.1,
        hang_after=0.5,
        kernel_log=str(log),
        state_folder=f"{folder}/state",
    )
    environment = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
    with monitor(settings, environment) as running:
        # A thread opens the log, perhaps after the first state.
        becomes(running, lambda state: len(state.inventory.gpus) == 2 and _reads(state))
        yield running


def _reads(state: NodeState) -> bool:
    return state.kernel_log_lost == 0


def becomes(running: Monitor, holds: Callable[[NodeState], bool]) -> NodeState:
    """Return the next state for which *holds*."""
    state = running.state()
    while not holds(state):
        state = running.state()
    return state


def record(number: int, xid: int, detail: str = "x") -> bytes:
    """Return a record of the kernel log with an Xid of the second GPU."""
    return b"3,%d,1,-;NVRM: Xid (PCI:%s): %d, pid=1, name=a, %s\n" % (
        number,
        PCI.encode(),
        xid,
        detail.encode(),
    )


def write(log: Path, data: bytes) -> None:
    """Add *data* to the kernel log."""
    with log.open("ab", buffering=0) as file:
        file.write(data)


def reasons(state: NodeState, uuid: str = UUIDS[1]) -> set[str]:
    """Return the reasons of a GPU."""
    return {str(why) for device in state.health if device.uuid == uuid for why in device.reasons}


def counts(state: NodeState, xid: int) -> list[tuple[str, int, dict[str, int]]]:
    """Return GPU, number and sources of an Xid."""
    return [(x.uuid, x.count, x.sources) for x in state.xids if x.xid == xid]


def settled(xid: int) -> Callable[[NodeState], bool]:
    """Return whether it is certain who told of all Xids with this number."""

    def holds(state: NodeState) -> bool:
        seen: list[XidCount] = [x for x in state.xids if x.xid == xid]
        return bool(seen) and all(sum(x.sources.values()) == x.count for x in seen)

    return holds


@pytest.mark.parametrize("first", ["nvml", "kernel"])
def test_an_xid_of_both_is_one(folder: Path, library: Path, log: Path, first: str) -> None:
    """An Xid that NVML and the log tell is counted once, whoever is first."""
    with watching(folder, library, log) as running:
        for source in ("nvml", "kernel") if first == "nvml" else ("kernel", "nvml"):
            if source == "nvml":
                Steering(folder).xid(1, 79)
            else:
                write(log, record(1, 79))
            becomes(running, lambda state: reasons(state) == {"xid 79"})
        state = becomes(running, settled(79))
        assert counts(state, 79) == [(UUIDS[1], 1, {"both": 1})]
        assert reasons(state, UUIDS[0]) == set()


def test_an_xid_that_only_the_log_tells_while_nvml_hangs(
    folder: Path, library: Path, log: Path
) -> None:
    """The log speaks when NVML does not: the Xid counts, and is a reason beside the hang."""
    with watching(folder, library, log) as running:
        Steering(folder).hang(1)
        becomes(running, lambda state: any("driver-hang" in why for why in reasons(state)))
        write(log, record(1, 79) + b"3,2,1,-;NVRM: GPU 0000:0a:00.0: GPU has fallen off the bus.\n")
        state = becomes(running, lambda state: {"xid 79", "gpu-lost"} <= reasons(state))
        assert reasons(state, UUIDS[0]) == set()
        state = becomes(running, settled(79))
        assert counts(state, 79) == [(UUIDS[1], 1, {"kernel": 1})]


def test_an_xid_that_only_nvml_tells(folder: Path, library: Path, log: Path) -> None:
    """Without a line in the log, NVML is the source."""
    with watching(folder, library, log) as running:
        Steering(folder).xid(1, 79)
        state = becomes(running, settled(79))
        assert counts(state, 79) == [(UUIDS[1], 1, {"nvml": 1})]


def test_the_severity_word_decides(folder: Path, library: Path, log: Path) -> None:
    """The driver's word in the log makes an Xid of NVLink 5 a fault, or none."""
    with watching(folder, library, log) as running:
        write(log, record(1, 145, HARMLESS) + record(2, 149, FATAL))
        state = becomes(running, lambda state: bool(counts(state, 149)))
        assert reasons(state) == {"xid 149"}
        assert counts(state, 145) == [(UUIDS[1], 1, {})]


def test_a_storm(folder: Path, library: Path, log: Path) -> None:
    """A storm of Xids is counted to the last, and NVML's events are heard meanwhile."""
    with watching(folder, library, log) as running:
        for turn in range(50):
            lines = (record(turn * 100 + n, 31) for n in range(100))
            write(log, b"6,1,1,-;something else\n".join(lines))
        Steering(folder).xid(0, 79)
        becomes(running, lambda state: reasons(state, UUIDS[0]) == {"xid 79"})
        becomes(running, lambda state: counts(state, 31)[0][1] == 5000)


def test_a_log_that_wraps(folder: Path, library: Path) -> None:
    """A text file that was replaced is read on."""
    log = folder / "kern.log"
    write(log, record(1, 48))
    with watching(folder, library, log) as running:
        log.rename(folder / "kern.log.1")
        write(log, record(2, 79))
        state = becomes(running, lambda state: bool(counts(state, 79)))
        assert reasons(state) == {"xid 79"}


def test_a_restart_of_the_monitor(folder: Path, library: Path) -> None:
    """The next monitor reads what came meanwhile, and nothing twice."""
    log = folder / "kern.log"
    write(log, record(1, 48))
    with watching(folder, library, log) as running:
        write(log, record(2, 79))
        becomes(running, settled(79))  # also: 2 s later, how far the log was read is saved
    write(log, record(3, 119))
    with watching(folder, library, log) as running:
        state = becomes(running, lambda state: bool(counts(state, 119)))
        assert reasons(state) == {"xid 79", "xid 119"}
        assert [seen.xid for seen in state.xids] == [119]
