"""GPUs that the kernel has given to other drivers, in a temporary sysfs."""

from pathlib import Path

import pytest

from health import inventory, looks, pci
from health.condition import Look
from health.enumeration import SystemRoots
from health.inventory import Slot
from health.nvml import Nvml
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, gpu, refusal

ADDRESS = "0000:41:00.0"
AWAY = Reason(ReasonKind.PASSTHROUGH, "vfio-pci")


def bind(
    sysfs: Path, address: str, driver: str, kind: str = "0x030200", vendor: str = "0x10de"
) -> None:
    """Show a device that is bound to a driver."""
    (sysfs / "bus/pci/drivers" / driver / address).mkdir(parents=True)
    device = sysfs / "bus/pci/devices" / address
    device.mkdir(parents=True)
    (device / "class").write_text(f"{kind}\n")
    (device / "vendor").write_text(f"{vendor}\n")


def test_the_gpus_that_are_given_away(tmp_path: Path) -> None:
    """They are NVIDIA's displays and 3D controllers; audio functions and other cards are not."""
    bind(tmp_path, ADDRESS, "vfio-pci")
    bind(tmp_path, "0009:01:00.0", "nvgrace_gpu_vfio_pci")
    bind(tmp_path, "0000:42:00.0", "vfio-pci", kind="0x030000")
    bind(tmp_path, "0000:42:00.1", "vfio-pci", kind="0x040300")
    bind(tmp_path, "0000:43:00.0", "vfio-pci", vendor="0x8086")
    bind(tmp_path, "0000:44:00.0", "nvidia")
    assert pci.passed(tmp_path) == {
        ADDRESS: "vfio-pci",
        "0000:42:00.0": "vfio-pci",
        "0009:01:00.0": "nvgrace_gpu_vfio_pci",
    }
    assert pci.passthrough(tmp_path, ADDRESS) == AWAY
    assert pci.passthrough(tmp_path, "0000:44:00.0") is None
    assert pci.passthrough(tmp_path, "") is None
    assert pci.is_given_away([AWAY])
    assert not pci.is_given_away([Reason(ReasonKind.GPU_LOST)])


def test_a_kernel_without_pci(tmp_path: Path) -> None:
    """Without these files, no GPU is given away."""
    assert (pci.passed(tmp_path), pci.passthrough(tmp_path, ADDRESS)) == ({}, None)


@pytest.mark.parametrize("code", [15, 999], ids=["lost", "unknown"])
def test_a_gpu_that_is_given_away_is_not_lost(tmp_path: Path, code: int) -> None:
    """The check of a GPU that the driver cannot reach tells that the kernel has given it away."""
    bind(tmp_path, ADDRESS, "vfio-pci")
    nvml = Nvml(Driver(nvmlDeviceGetMemoryInfo=refusal(code)))
    roots = SystemRoots(sysfs=tmp_path)
    mine = gpu(pci_bus_id=ADDRESS)
    assert looks.look(nvml, "a handle", mine, roots) == Look(ailments=frozenset({AWAY}))
    (tmp_path / "bus/pci/drivers/vfio-pci" / ADDRESS).rmdir()
    assert pci.is_given_away(looks.look(nvml, "a handle", mine, roots).ailments) is False


def test_a_known_gpu_keeps_its_place() -> None:
    """A GPU that was there in this boot stays in the list while it is given away."""
    here, away = gpu(0), gpu(1, pci_bus_id=ADDRESS)
    slots, bound = [Slot(0, here)], frozenset({here.pci_bus_id})
    assert inventory.with_absent(slots, [here, away], bound) == (here,)
    assert inventory.with_absent(slots, [here, away], bound, {ADDRESS: "vfio-pci"}) == (here, away)
    assert looks.of_given_away({ADDRESS: "vfio-pci"}, [here, away]) == {
        away.uuid: Look(ailments=frozenset({AWAY}))
    }
