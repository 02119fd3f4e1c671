"""The files of the node: where its device nodes are, and a mount that does not answer."""

import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from health import device_nodes, enumeration
from health.lane import Done, Mailbox
from health.node import Node
from proto.monitor import MonitorSettings
from proto.paths import Paths
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode
from simulator.node_file import complete
from tests.unit.builders import gpu, gpu_uuid

NOBODY: frozenset[str] = frozenset()
LIMIT, PATIENCE = 15.0, 5.0


class Started:
    """A node with one simulated GPU, whose lanes run, and whose host is mounted at *root*."""

    def __init__(self, folder: Path, root: Path, hangs: int | None = None) -> None:
        live = LiveNode(folder)
        gpus = (SimulatedGpu(),) * (1 if hangs is None else hangs + 1)
        live.start(complete(SimulatedNode(gpus)))
        if hangs is not None:
            live.hang(hangs)
        settings = MonitorSettings(
            Paths("", "", "", ""),
            "simulator.nvml",
            str(folder),
            driver_root=str(live.root),
            dev_roots=(str(root), str(live.root)),
            sysfs=str(live.sysfs),
            procfs=str(live.procfs),
            hang_after=LIMIT,
            patience=PATIENCE,
        )
        self.mailbox = Mailbox()
        known = () if hangs is None else tuple(gpu(n) for n in range(hangs + 1))
        self.node = Node(settings, known, self.mailbox)
        self.began = time.monotonic()

    def until_settled(self, stuck: str = "files") -> None:
        """Let the lanes work as in the monitor's loop, until all that is due was done.

        The lane *stuck* may be busy for ever.
        """
        busy = [self.node.driver]
        while busy:
            assert select.select([self.mailbox], [], [], 60)[0]
            for done in self.mailbox.take():
                if isinstance(done, Done):
                    done.lane.busy = False
                    self.node.take(done, self.node.gpu_of(done.lane), self.began)
            self.node.step(self.began, NOBODY)
            # A lane that waits for events or for a dead mount has nothing to report.
            busy = [
                lane
                for lane, lanes in self.node.lanes()
                if lane.busy and lane.name != stuck and not (lanes and lane is lanes.events)
            ]


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make each look below a root of device nodes hang until the event is set."""
    answers, look = threading.Event(), device_nodes.root_of

    def hang(roots: tuple[Path, ...]) -> Path:
        answers.wait()
        return look(roots)

    monkeypatch.setattr(device_nodes, "root_of", hang)
    yield answers
    answers.set()


def test_a_dead_mount_holds_up_the_start_only(tmp_path: Path, dead: threading.Event) -> None:
    """The start waits for the device nodes until the look at them counts as hanging, and goes on
    with the GPUs. When the mount answers, the nodes are found.
    """
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()
    started = Started(tmp_path, root)
    node = started.node
    started.until_settled()
    assert not node.ready(started.began + LIMIT)
    assert node.ready(started.began + LIMIT + 1)
    (hanging,) = [lane for lane, _ in node.lanes() if lane.late(time.monotonic() + LIMIT, LIMIT)]
    assert hanging.late(time.monotonic() + LIMIT, LIMIT) == "look for device nodes"
    found = node.inventory({})
    assert (len(found.gpus), found.cuda_version is None, found.nodes) == (1, False, ())
    dead.set()
    assert select.select([started.mailbox], [], [], 60)[0]
    started.until_settled()
    assert node.inventory({}).nodes == ("/dev/nvidiactl",)


def test_a_comparison_of_gpus_that_hangs_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CUDA version is known, and device nodes that come later are found."""
    answers = threading.Event()
    monkeypatch.setattr(enumeration, "find_levels", lambda *_, **__: answers.wait())
    root = tmp_path / "root"
    started = Started(tmp_path, root)
    started.until_settled(stuck="driver")
    assert started.node.driver.busy
    assert started.node.inventory({}).cuda_version is not None
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()
    started.node.rescan()
    started.node.step(started.began, NOBODY)
    started.until_settled(stuck="driver")
    assert started.node.inventory({}).nodes == ("/dev/nvidiactl",)
    answers.set()


def test_a_gpu_that_hangs_from_the_start_is_never_healthy(tmp_path: Path) -> None:
    """When the start goes on without it, its call has not taken quite as long as the start has. It
    counts as stuck all the same, as none of its calls has returned.
    """
    started = Started(tmp_path, tmp_path / "root", hangs=1)
    node = started.node
    started.until_settled(stuck="gpu 1 calls")
    now = started.began + PATIENCE + 0.001
    (hanging,) = [lane for lane, _ in node.lanes() if lane.name == "gpu 1 calls"]
    assert (node.ready(now), hanging.late(now, PATIENCE)) == (True, "")
    assert node.pending(node.inventory({}).gpus, now).keys() == {gpu_uuid(1)}
    LiveNode(tmp_path).recover(1)


def test_the_first_root_with_devices_counts(tmp_path: Path) -> None:
    """The device nodes are below the driver's root if that contains dev/, else below the last."""
    roots = (tmp_path / "none", tmp_path / ("x" * 300), tmp_path / "mounted", Path("/"))
    assert device_nodes.root_of(roots) == Path("/")
    (tmp_path / "mounted/dev").mkdir(parents=True)
    assert device_nodes.root_of(roots) == tmp_path / "mounted"
    assert device_nodes.root_of((tmp_path / "none",)) == tmp_path / "none"


def test_a_root_that_comes_later_counts(tmp_path: Path) -> None:
    """A driver root that is mounted after the start is seen at the next rescan."""
    root = tmp_path / "root"
    started = Started(tmp_path, root)
    started.until_settled()
    assert started.node.inventory({}).nodes == ()
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()
    started.node.rescan()
    started.node.step(started.began, NOBODY)
    (files,) = [lane for lane, _ in started.node.lanes() if lane.name == "files"]
    while files.busy:
        started.until_settled()
    assert started.node.inventory({}).nodes == ("/dev/nvidiactl",)
