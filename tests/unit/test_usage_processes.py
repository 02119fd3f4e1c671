"""Whose a process is, by /proc and the kubelet's log folders, also when a PID is reused."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from proto.exporter import UsageRoots
from proto.host import since_boot
from proto.messages import UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.exporter import usage_processes
from supervisor.exporter.usage_processes import (
    LONGEST_CGROUP,
    NO_HOST_PIDS,
    TICKS,
    Found,
    find,
    problem,
)
from supervisor.status.usage_owner import HOST, UNKNOWN, Owner, OwnerKind, Owners

UID = "2c48913c-b29f-11e7-9350-020968147796"
ID = "9b" * 32
POD_CGROUP = f"0::/kubepods/pod{UID}/{ID}\n"
TRAIN = Owner(OwnerKind.CONTAINER, "ml", "train-0", "main")
GPU, TAKEN = "GPU-1", 5000.0


@dataclass
class Node:
    """The files of a node in a folder."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("proc", "pods", "containers"):
            (self.folder / name).mkdir()

    @property
    def roots(self) -> UsageRoots:
        """Where the exporter finds the files."""
        return UsageRoots(*(f"{self.folder}/{name}" for name in ("proc", "pods", "containers")))

    def add_pod(self) -> None:
        """Make the kubelet's log folders of the pod."""
        (self.folder / "pods" / f"ml_train-0_{UID}").mkdir()
        (self.folder / "containers" / f"train-0_ml_main-{ID}.log").symlink_to("nowhere")

    def add(
        self,
        pid: int | str,
        cgroup: str = POD_CGROUP,
        *,
        ticks: int,
        name: str = "python",
        status: str = "S",
    ) -> None:
        """Start a process so many ticks after the boot."""
        process = self.folder / "proc" / str(pid)
        process.mkdir()
        fields = [status, "1", *["0"] * 17, str(ticks), "0", "0"]
        (process / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        (process / "cgroup").write_text(cgroup)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Return a node with the log folders of one pod."""
    found = Node(tmp_path)
    found.add_pod()
    return found


def state(*pids: int, taken: float = TAKEN) -> UsageState:
    """Return a sample in which these processes use the GPU."""
    processes = tuple(GpuProcess(pid, ProcessKind.COMPUTE) for pid in pids)
    device = DeviceUsage(GPU, taken, processes=processes)
    return UsageState(epoch=1, sequence=1, interval=5.0, devices=(device,))


def owner_of(node: Node, pid: int) -> Owner:
    """Return whose the process is, as found on the node."""
    return find(state(pid), [node.roots]).of[GPU, pid]


def test_owners(node: Node) -> None:
    """A process is the container's, the host's, or unknown if it has ended."""
    node.add(7, ticks=100)
    node.add(8, "0::/system.slice/Xorg.service\n", ticks=100)
    assert find(state(7, 8, 9), [node.roots]) == Owners(
        {(GPU, 7): TRAIN, (GPU, 8): HOST, (GPU, 9): UNKNOWN}
    )


@pytest.mark.parametrize(
    ("ticks", "whose"),
    [
        (int(TAKEN * TICKS) - 1, TRAIN),
        (int(TAKEN * TICKS), UNKNOWN),
        (int(TAKEN * TICKS) + 1, UNKNOWN),
    ],
    ids=["before the sample", "in the same tick", "after the sample"],
)
def test_a_pid_that_is_reused(node: Node, ticks: int, whose: Owner) -> None:
    """A process that started after the sample is not the one that used the GPU."""
    node.add(7, ticks=ticks)
    assert owner_of(node, 7) == whose


def test_a_pid_that_is_reused_during_the_look_up(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the process ends after its start time was read, the cgroups of its successor are not."""
    node.add(7, "0::/\n", ticks=100)
    original = usage_processes.content

    def reused(folder: int, name: str, longest: int) -> str:
        found = original(folder, name, longest)
        if name == "stat":
            (node.folder / "proc/7").rename(node.folder / "gone")
            (node.folder / "gone/cgroup").unlink()
            node.add(7, ticks=100)
        return found

    monkeypatch.setattr(usage_processes, "content", reused)
    assert owner_of(node, 7) == UNKNOWN


def test_a_pid_that_is_reused_while_the_driver_lists_it(node: Node) -> None:
    """The new process is not blamed: a child of the old one may keep the memory."""
    found: Found = {}
    node.add(7, "0::/system.slice/x.service\n", ticks=100)
    assert find(state(7), [node.roots], found).of[GPU, 7] == HOST
    shutil.rmtree(node.folder / "proc/7")
    node.add(7, ticks=200)
    assert find(state(7), [node.roots], found).of[GPU, 7] == UNKNOWN
    assert find(state(7), [node.roots], found).of[GPU, 7] == UNKNOWN


def test_a_process_whose_first_thread_has_ended(node: Node) -> None:
    """It is still its container's, although cgroup v1 shows the root for that thread."""
    node.add(7, "4:devices:/\n", ticks=100, status="Z")
    (node.folder / "proc/7/task").mkdir()
    node.add("7/task/7", "4:devices:/\n", ticks=100, status="Z")
    node.add("7/task/8", f"4:devices:/kubepods/pod{UID}/{ID}\n", ticks=101)
    assert owner_of(node, 7) == TRAIN


def test_a_process_that_ends_during_the_look_up(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for one of the host, although cgroup v1 shows the root for it."""
    node.add(7, "4:devices:/\n", ticks=100)
    (node.folder / "proc/7/task").mkdir()
    original = usage_processes.content

    def ends(folder: int, name: str, longest: int) -> str:
        if name.endswith("cgroup"):
            stat = node.folder / "proc/7/stat"
            stat.write_text(stat.read_text().replace(" S ", " Z "))
        return original(folder, name, longest)

    monkeypatch.setattr(usage_processes, "content", ends)
    assert owner_of(node, 7) == UNKNOWN


def test_hostile_process_names(node: Node) -> None:
    """A process cannot give itself another start time by its name."""
    node.add(7, ticks=int(TAKEN * TICKS) + 5, name="x) S 1 1 1 0 0 ")
    assert owner_of(node, 7) == UNKNOWN


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("stat", "7 (python) S 1"),
        ("stat", ""),
        ("stat", f"7 (python) {'x ' * 30}"),
        ("stat", "7 (python) S " + "0 " * 5000),
        ("cgroup", ""),
        ("cgroup", POD_CGROUP * (LONGEST_CGROUP // len(POD_CGROUP) + 1)),
    ],
)
def test_files_that_cannot_be_read(node: Node, file: str, content: str) -> None:
    """A process whose files are cut short or far too long is unknown."""
    node.add(7, ticks=100)
    (node.folder / "proc/7" / file).write_text(content)
    assert owner_of(node, 7) == UNKNOWN


def test_text_that_is_not_utf8(node: Node) -> None:
    """A cgroup below the container with any bytes in its name changes nothing."""
    node.add(7, ticks=100)
    (node.folder / "proc/7/cgroup").write_bytes(POD_CGROUP.strip().encode() + b"/\xff\xfe\n")
    assert owner_of(node, 7) == TRAIN


def test_the_simulated_node_comes_first(node: Node, tmp_path: Path) -> None:
    """A process is looked up in one root after the other; a root with a problem is left out."""
    (tmp_path / "other").mkdir()
    other = Node(tmp_path / "other")
    other.add(7, "0::/\n", ticks=100)
    other.add(8, "0::/\n", ticks=100)
    node.add(7, ticks=100)
    missing = UsageRoots("/proc", f"{tmp_path}/missing", f"{tmp_path}/missing")
    found = find(state(7, 8, 9), [node.roots, missing, other.roots])
    assert found == Owners({(GPU, 7): TRAIN, (GPU, 8): HOST, (GPU, 9): UNKNOWN})


def test_log_folders_that_are_missing(node: Node) -> None:
    """Without the kubelet's log folders no process is assigned, and the problem says which."""
    (node.folder / "containers").rename(node.folder / "elsewhere")
    node.add(7, ticks=100)
    found = find(state(7), [node.roots])
    folder = node.folder / "containers"
    why = (
        f'cannot read the log folder "{folder}": No such file or directory; mount it read-only '
        "(Helm: usage.perContainer=true)"
    )
    assert found == Owners(problem=why)


@pytest.mark.parametrize(
    ("first", "own", "why"),
    [
        ("0::/init.scope\n", "0::/system.slice/gpu-sharing-plugin.service\n", ""),
        ("0::/../../../init.scope\n", "0::/\n", ""),
        ("0::/\n", "0::/\n", NO_HOST_PIDS),
        (POD_CGROUP, f"0::/kubepods/pod{UID}/{'a' * 64}\n", NO_HOST_PIDS),
        (f"0::/../{ID}\n", "0::/\n", NO_HOST_PIDS),
        ("", "0::/\n", NO_HOST_PIDS),
    ],
    ids=["systemd", "hostPID", "own namespace", "pod's namespace", "the same, v2", "unreadable"],
)
def test_whose_pids_are_seen(node: Node, first: str, own: str, why: str) -> None:
    """Processes are assigned only where PID 1 is the init of the node."""
    node.add(1, first, ticks=1)
    node.add("self", own, ticks=1)
    (node.folder / "proc/self/ns").mkdir()
    (node.folder / "proc/self/ns/pid").symlink_to("pid:[4026532847]")
    assert problem(node.roots) == why


def test_the_namespace_of_the_host(node: Node) -> None:
    """In the host's own PID namespace, PID 1 may be anything."""
    (node.folder / "proc/self/ns").mkdir(parents=True)
    (node.folder / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    assert problem(node.roots) == ""


def test_what_is_found_for_good_is_not_read_again(node: Node) -> None:
    """The owner of a process is kept."""
    found: Found = {}
    node.add(7, ticks=100)
    assert find(state(7), [node.roots], found).of[GPU, 7] == TRAIN
    (node.folder / "proc/7/cgroup").unlink()
    assert find(state(7), [node.roots], found).of[GPU, 7] == TRAIN


@pytest.mark.parametrize("folder", ["pods", "containers"])
def test_what_is_not_found_yet_is_read_again(node: Node, folder: str) -> None:
    """A pod or container whose folder or link comes later is found then."""
    found: Found = {}
    node.add(7, ticks=100)
    (node.folder / folder).rename(node.folder / "hidden")
    (node.folder / folder).mkdir()
    assert find(state(7), [node.roots], found).of[GPU, 7] != TRAIN
    (node.folder / folder).rmdir()
    (node.folder / "hidden").rename(node.folder / folder)
    assert find(state(7), [node.roots], found).of[GPU, 7] == TRAIN


def test_real_processes() -> None:
    """The start time and the cgroups of a real process are those of the kernel."""
    before = since_boot()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = usage_processes.read("/proc", child.pid)
        assert found is not None
        assert before - 1 / TICKS <= found.started <= since_boot()
        assert found.cgroup == Path(f"/proc/{child.pid}/cgroup").read_text()
    finally:
        child.kill()
        child.communicate()
    assert usage_processes.read("/proc", child.pid) is None
