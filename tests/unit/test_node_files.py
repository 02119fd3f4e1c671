"""The files of the node: where its device nodes are, and a mount that does not answer."""

import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inotify_simple import INotify

from health import device_nodes, enumeration
from health.enumeration import Levelled
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

    def __init__(self, folder: Path, root: Path, hangs: int | None = None, known: int = 0) -> None:
        # Not later in a lane: the first one asks ldconfig, a process that would seem to be left.
        INotify().close()
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
        count = known if hangs is None else hangs + 1
        self.node = Node(settings, tuple(gpu(n) for n in range(count)), self.mailbox)
        self.began = time.monotonic()

    def work_until(self, holds: Callable[[], bool]) -> None:
        """Let the lanes work as in the monitor's loop, until *holds* is true."""
        while not holds():
            assert select.select([self.mailbox], [], [], 60)[0]
            for done in self.mailbox.take():
                if isinstance(done, Done):
                    done.lane.busy = False
                    self.node.take(done, self.node.gpu_of(done.lane), self.began)
            self.node.step(self.began, NOBODY)

    def work_without(self, stuck: str) -> None:
        """Let the lanes work until all but *stuck*, and those that wait for events, are idle."""
        self.work_until(lambda: self.node.opened and not any(self._busy(stuck)))

    def _busy(self, stuck: str) -> Iterator[bool]:
        for lane, lanes in self.node.lanes():
            if lane.name != stuck and not (lanes and lane is lanes.events):
                yield lane.busy

    def uuids(self) -> list[str]:
        """Return the GPUs that are enumerated."""
        return [lanes.uuid for lanes in self.node.gpus if lanes.gpu]

    def nodes(self) -> tuple[str, ...]:
        """Return the device nodes in the inventory."""
        return self.node.inventory({}).nodes


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
    started.work_without("files")
    assert not node.ready(started.began + LIMIT)
    assert node.ready(started.began + LIMIT + 1)
    (hanging,) = [lane for lane, _ in node.lanes() if lane.late(time.monotonic() + LIMIT, LIMIT)]
    assert hanging.late(time.monotonic() + LIMIT, LIMIT) == "look for device nodes"
    found = node.inventory({})
    assert (len(found.gpus), found.cuda_version is None) == (1, False)
    assert found.nodes == ("/dev/nvidiactl", "/dev/nvidia-uvm")  # else containers would be broken
    dead.set()
    started.work_until(lambda: started.nodes() == ("/dev/nvidiactl",))


def test_a_dead_mount_holds_up_a_restart_for_a_moment_only(
    tmp_path: Path, dead: threading.Event
) -> None:
    """A new monitor reports GPUs that are known before their last state is too old."""
    assert not dead.is_set()
    started = Started(tmp_path, tmp_path, known=1)
    started.work_without("files")
    assert not started.node.ready(started.began + PATIENCE)
    assert started.node.ready(started.began + PATIENCE + 1)


def test_a_comparison_of_gpus_that_hangs_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CUDA version is known, and device nodes that come later are found."""
    hangs, answers = threading.Event(), threading.Event()

    def find_levels(*_: object, **__: object) -> Levelled:
        hangs.set()
        answers.wait()
        return Levelled({})

    monkeypatch.setattr(enumeration, "find_levels", find_levels)
    root = tmp_path / "root"
    started = Started(tmp_path, root)
    started.work_until(lambda: bool(started.node.inventory({}).cuda_version and started.uuids()))
    assert hangs.wait(60)
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()
    started.node.rescan()
    started.node.step(started.began, NOBODY)
    started.work_until(lambda: started.nodes() == ("/dev/nvidiactl",))
    answers.set()


def test_a_gpu_that_hangs_from_the_start_is_never_healthy(tmp_path: Path) -> None:
    """When the start goes on without it, its call has not taken quite as long as the start has. It
    counts as stuck all the same, as none of its calls has returned.
    """
    started = Started(tmp_path, tmp_path / "root", hangs=1)
    node = started.node
    started.work_without("gpu 1 calls")
    (hanging,) = [lane for lane, _ in node.lanes() if lane.name == "gpu 1 calls"]
    running = hanging.nvml.running
    assert running is not None
    now = (started.began + running.due) / 2 + PATIENCE
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
    started.work_without("none")
    assert started.nodes() == ()
    (root / "dev").mkdir(parents=True)
    (root / "dev/nvidiactl").touch()
    started.node.rescan()
    started.node.step(started.began, NOBODY)
    started.work_until(lambda: started.nodes() == ("/dev/nvidiactl",))
