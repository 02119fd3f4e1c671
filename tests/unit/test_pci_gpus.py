"""GPUs on the PCI bus, and what a node without a driver is."""

import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from health import access, pci_gpus, platform_files, versions
from health.nvml import Code
from health.opening import Refused
from health.pci_gpus import PciGpu
from proto.driver import NOTHING_TO_SERVE, DriverState
from proto.monitor import MonitorSettings
from proto.paths import Paths
from proto.platform import Platform, PlatformKind
from supervisor.exporter.without_gpu import LIBRARIES, GpuSigns, Wait, signs

FREE = PciGpu("0000:01:00.0")
BOUND = PciGpu("0000:01:00.0", "nvidia")
GUEST = PciGpu("0000:02:00.0", "vfio-pci")
GRACE = PciGpu("0009:01:00.0", "nvgrace_gpu_vfio_pci")


@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [
        ("0x10de\n", "0x030200\n", True),
        ("0x10de\n", "0x030000\n", True),
        ("0x10de\n", "0x040300\n", False),  # the sound of a graphics card
        ("0x10de\n", "0x068000\n", False),  # an NVSwitch
        ("0x15b3\n", "0x020700\n", False),  # a network adapter
        ("0x1002\n", "0x030000\n", False),  # a GPU of somebody else
        ("", "", False),
    ],
)
def test_what_a_gpu_is(*, vendor: str, kind: str, expected: bool) -> None:
    """NVIDIA's display controllers are GPUs, and none of its other devices."""
    assert pci_gpus.is_gpu(vendor, kind) is expected


@pytest.mark.parametrize(
    ("found", "elsewhere", "expected"),
    [
        ((), False, DriverState.NO_GPU),
        ((), True, DriverState.MISSING),
        (None, False, DriverState.MISSING),
        ((FREE,), False, DriverState.MISSING),
        ((BOUND,), False, DriverState.MISSING),
        ((GUEST, GRACE), False, DriverState.PASSTHROUGH),
        ((FREE, GUEST), False, DriverState.MISSING),
    ],
)
def test_a_node_without_a_driver(
    *, found: tuple[PciGpu, ...] | None, elsewhere: bool, expected: DriverState
) -> None:
    """What is unknown counts as a GPU; GPUs of virtual machines do not."""
    assert pci_gpus.judge(found, elsewhere=elsewhere) is expected


def machine(folder: Path, *gpus: PciGpu) -> Path:
    """Write a sysfs with *gpus* and a sound device; return its root."""
    devices = folder / "bus/pci/devices"
    for gpu in (*gpus, PciGpu("0000:00:1f.3")):
        place = devices / gpu.address
        place.mkdir(parents=True)
        kind = "0x030200" if gpu in gpus else "0x040300"
        (place / "vendor").write_text("0x10de\n")
        (place / "class").write_text(f"{kind}\n")
        if gpu.driver:
            driver = folder / "bus/pci/drivers" / gpu.driver
            driver.mkdir(parents=True, exist_ok=True)
            (place / "driver").symlink_to(driver)
    return folder


def test_the_gpus_of_sysfs(tmp_path: Path) -> None:
    """Each GPU is found with its driver; a device that is half removed is not."""
    sysfs = machine(tmp_path, BOUND, GUEST)
    (sysfs / "bus/pci/devices/0000:03:00.0").mkdir()
    assert pci_gpus.gpus(sysfs) == (BOUND, GUEST)


def test_a_machine_without_the_bus(tmp_path: Path) -> None:
    """A machine may have no such bus; where the kernel shows no buses, nothing is known."""
    assert pci_gpus.gpus(tmp_path) is None
    (tmp_path / "bus").mkdir()
    assert pci_gpus.gpus(tmp_path) == ()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("devices/soc0/family", "Tegra\n"),
        ("version", "Linux version 6.6.87.2-microsoft-standard-WSL2\n"),
    ],
)
def test_gpus_that_are_not_on_the_bus(tmp_path: Path, file: str, text: str) -> None:
    """The GPU of a Tegra and those of WSL2 are not on the bus: such a node waits for its driver."""
    sysfs = machine(tmp_path)
    assert pci_gpus.without_driver(sysfs, tmp_path) is DriverState.NO_GPU
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert pci_gpus.without_driver(sysfs, tmp_path) is DriverState.MISSING


def of(sysfs: Path, procfs: Path) -> MonitorSettings:
    """Return the settings of a monitor on a machine with these folders."""
    return MonitorSettings(Paths("", "", "", ""), "", "", sysfs=str(sysfs), procfs=str(procfs))


NOT_FOUND, UNKNOWN = Code.LIBRARY_NOT_FOUND, Code.UNKNOWN


@pytest.mark.parametrize(
    ("gpus", "code", "known", "expected", "words"),
    [
        ((), NOT_FOUND, False, DriverState.NO_GPU, "no NVIDIA GPU on this node; no library"),
        ((), Code.DRIVER_NOT_LOADED, False, DriverState.NO_GPU, "no NVIDIA GPU on this node"),
        ((GUEST,), NOT_FOUND, False, DriverState.PASSTHROUGH, "belong to virtual machines (vfio)"),
        # It had GPUs in this boot: one that is not on the bus any more is lost.
        ((), NOT_FOUND, True, DriverState.MISSING, "no library; install the NVIDIA driver"),
        ((FREE,), NOT_FOUND, False, DriverState.MISSING, "no library; install the NVIDIA driver"),
        ((), UNKNOWN, False, DriverState.UNUSABLE, "no library"),
    ],
)
def test_why_the_driver_cannot_be_opened(  # noqa: PLR0913 - a table's columns
    tmp_path: Path,
    *,
    gpus: tuple[PciGpu, ...],
    code: int,
    known: bool,
    expected: DriverState,
    words: str,
) -> None:
    """The report tells a node without a GPU from one without a driver."""
    settings = of(machine(tmp_path, *gpus), tmp_path)
    report = access.refused(Refused("no library", code), settings, had_gpus=known)
    assert report.driver is expected
    assert words in report.reason
    assert (report.driver in NOTHING_TO_SERVE) == (
        expected in {DriverState.NO_GPU, DriverState.PASSTHROUGH}
    )


LIBRARY, NODES, OLD = Code.LIBRARY_NOT_FOUND, Code.DRIVER_NOT_LOADED, Code.VERSION_MISMATCH


@pytest.mark.parametrize(
    ("code", "module", "late", "expected", "restart", "words"),
    [
        (LIBRARY, False, False, DriverState.MISSING, False, "install the NVIDIA driver"),
        (LIBRARY, True, False, DriverState.MISSING, True, "a new container gets the library"),
        (NODES, False, False, DriverState.MISSING, False, "load the kernel module"),
        (NODES, True, False, DriverState.UNUSABLE, True, "a new container gets /dev/nvidia*"),
        (NODES, False, True, DriverState.MISSING, False, "load the kernel module"),
        (UNKNOWN, True, True, DriverState.UNUSABLE, True, "lost access"),
        (OLD, True, False, DriverState.UNUSABLE, False, "differ in version"),
    ],
)
def test_what_only_a_new_container_has(  # noqa: PLR0913 - a table's columns
    tmp_path: Path,
    *,
    code: int,
    module: bool,
    late: bool,
    expected: DriverState,
    restart: bool,
    words: str,
) -> None:
    """Where the kernel module is loaded, the library or the device nodes are missing only here."""
    if module:
        touch(tmp_path / "driver/nvidia/version")
        text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
        (tmp_path / "driver/nvidia/version").write_text(text)
    settings = of(machine(tmp_path, FREE), tmp_path)
    found = Refused("no", code, came_late=late)
    report = access.refused(found, settings, had_gpus=False)
    assert (report.driver, report.needs_restart, report.came_late) == (expected, restart, late)
    assert words in report.reason


@pytest.mark.parametrize("kind", [PlatformKind.WSL, PlatformKind.TEGRA])
def test_a_platform_whose_gpus_are_not_on_the_bus(tmp_path: Path, kind: PlatformKind) -> None:
    """Such a node waits for its driver, though no GPU is on the bus."""
    settings = of(machine(tmp_path), tmp_path)
    found = Refused("no library", NOT_FOUND, Platform(kind))
    assert access.refused(found, settings, had_gpus=False).driver is DriverState.MISSING


def touch(path: Path) -> None:
    """Create a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_refusal_reads_files_only_for_answers_that_they_explain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor's loop makes one when it has lost access; a call that hangs can block them."""

    def read(_: Path) -> versions.Versions:
        raise AssertionError("these files may never answer")

    monkeypatch.setattr(versions, "read", read)
    for code in (Code.NO_PERMISSION, Code.OPERATING_SYSTEM, Code.UNKNOWN, None):
        assert "no" in access.refusal("no", code, tmp_path).reason
    for code in (LIBRARY, NODES, OLD):
        with pytest.raises(AssertionError):
            access.refusal("no", code, tmp_path)


def looked(wait: Wait) -> None:
    """Wait until the thread has looked at the signs."""
    assert select.select([wait.mailbox], [], [], 60)[0]


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """Return the warnings that are logged."""
    found: list[str] = []
    sink = logger.add(lambda text: found.append(text.record["message"]), level="WARNING")
    yield found
    logger.remove(sink)


@pytest.mark.parametrize(
    "sign",
    [
        "gpu",
        "driver/nvidia/version",
        f"root/{LIBRARIES[0]}",
        f"root/{platform_files.RELEASE}",
        f"root/{platform_files.DXCORE}",
    ],
)
def test_the_wait_for_a_gpu(tmp_path: Path, sign: str) -> None:
    """A GPU, its driver, the driver's library or a file of a platform end the wait, at the next
    look.
    """
    (tmp_path / "bus").mkdir()
    wait = Wait(lambda: signs(tmp_path / "root", tmp_path, tmp_path), 30.0, now=100.0)
    looked(wait)
    assert not wait.is_over(130.0)
    looked(wait)
    if sign == "gpu":
        machine(tmp_path, FREE)
    else:
        touch(tmp_path / sign)
    assert not wait.is_over(159.0)
    assert not wait.is_over(160.0)
    looked(wait)
    assert wait.is_over(160.0)


def test_a_look_that_hangs_holds_up_nothing(messages: list[str]) -> None:
    """While a mount does not answer, the wait goes on and says so once. When it answers, a change
    counts.
    """
    answers, found = threading.Event(), [GpuSigns((), ()), GpuSigns((), ()), GpuSigns((FREE,), ())]

    def look() -> GpuSigns:
        answers.wait()
        return found.pop(0)

    wait = Wait(look, 30.0, now=100.0)
    assert [wait.is_over(now) for now in (101.0, 130.0, 131.0, 160.0)] == 4 * [False]
    hung = "cannot look for a GPU: a file system does not answer"
    assert messages == [hung]
    answers.set()
    looked(wait)
    for now in (190.0, 220.0):
        assert not wait.is_over(now)
        looked(wait)
    assert wait.is_over(221.0)
    assert messages == [hung]


def test_a_gpu_that_came_before_the_wait(tmp_path: Path) -> None:
    """It came between the monitor's report and the first look: no sign changes any more."""
    wait = Wait(lambda: signs(tmp_path, tmp_path, tmp_path), 30.0, now=100.0, missed=True)
    assert not wait.is_over(129.0)
    assert wait.is_over(130.0)


def test_a_driver_root_that_cannot_be_read(tmp_path: Path) -> None:
    """Such a root shows nothing, and ends nothing."""
    assert signs(tmp_path / ("x" * 300), tmp_path, tmp_path).driver == ()


def test_a_bus_that_shows_nonsense(tmp_path: Path) -> None:
    """A file that is not text is that of no GPU."""
    sysfs = machine(tmp_path, GUEST, BOUND)
    (sysfs / "bus/pci/devices" / GUEST.address / "vendor").write_bytes(b"\xff\xfe")
    assert pci_gpus.gpus(sysfs) == (BOUND,)
