"""All GPUs of a PC as one device of WSL2."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from health.enumeration import Enumerated, SystemRoots, enumerate_gpu
from health.looks import look
from health.nvml import Code, Nvml
from health.wsl import WslBinding
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import refusal

FAST, SLOW = "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3060"
MISSING = frozenset({Reason(ReasonKind.NO_ACCESS, "/dev/dxg does not exist")})


class Windows:
    """The NVML of a PC with these GPUs; a name stands for each."""

    NVMLError = type(refusal(Code.UNKNOWN))

    def __init__(self, *names: str) -> None:
        self.names = names
        self.lost: set[str] = set()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - as nvidia-ml-py calls it
        """Return the number of GPUs."""
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        """Return the handle of a GPU."""
        return f"{index} {self.names[index]}"

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        """Return the model of a GPU."""
        return handle[2:]

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        """Return the UUID, which no container may get."""
        return f"GPU-{handle}"

    def nvmlDeviceGetPciInfo(self, handle: str) -> Any:  # noqa: N802
        """Return the PCI address."""
        return SimpleNamespace(busId=f"00000000:0{handle[0]}:00.0")

    def nvmlDeviceGetMinorNumber(self, handle: str) -> int:  # noqa: N802
        """Return what does not exist on WSL2."""
        return int(handle[0])

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: N802
        """Return the memory, unless the GPU is lost."""
        if handle in self.lost:
            raise refusal(Code.GPU_IS_LOST)
        mib = 24564 if FAST in handle else 12288
        return SimpleNamespace(total=mib << 20, free=mib << 20, used=0)

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:  # noqa: N802
        """Return the compute capability."""
        return (8, 9) if FAST in handle else (8, 6)


def one_device(windows: Windows) -> tuple[Nvml, Enumerated]:
    """Return NVML as the monitor uses it on WSL2, and its only device."""
    nvml = Nvml(WslBinding(windows))
    assert nvml.gpu_count() == 1
    found = enumerate_gpu(nvml, 0, SystemRoots())
    assert isinstance(found, Enumerated)
    return nvml, found


@pytest.mark.parametrize(
    ("names", "name", "memory", "capability", "pci"),
    [
        ((FAST,), FAST, 24564, "8.9", "0000:00:00.0"),
        ((FAST, FAST), FAST, 2 * 24564, "8.9", ""),
        ((FAST, SLOW), f"{FAST} and {SLOW}", 24564 + 12288, "8.6", ""),
    ],
)
def test_the_device(
    names: tuple[str, ...], name: str, memory: int, capability: str, pci: str
) -> None:
    """One GPU answers for itself; several are one device with the memory of all."""
    _, found = one_device(Windows(*names))
    gpu = found.gpu
    assert (gpu.uuid, gpu.index, gpu.minor) == ("all", 0, None)
    assert (gpu.name, gpu.memory_mib, gpu.compute_capability) == (name, memory, capability)
    assert (gpu.pci_bus_id, gpu.events, gpu.integrated) == (pci, False, False)


def test_a_pc_without_a_gpu() -> None:
    """A PC without an NVIDIA GPU has no device."""
    assert Nvml(WslBinding(Windows())).gpu_count() == 0


@pytest.mark.parametrize("names", [(FAST,), (FAST, SLOW)])
def test_the_checks_of_the_device(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Without /dev/dxg the device has a problem, which ends when the node is back; it is lost if
    any of its GPUs is.
    """
    windows = Windows(*names)
    nvml, found = one_device(windows)
    assert look(nvml, found.handle, found.gpu, SystemRoots(dev=(tmp_path,))).ailments == MISSING
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").touch()
    assert look(nvml, found.handle, found.gpu, SystemRoots(dev=(tmp_path,))).ailments == frozenset()
    windows.lost.add(windows.nvmlDeviceGetHandleByIndex(len(names) - 1))
    assert look(nvml, found.handle, found.gpu, SystemRoots(dev=(tmp_path,))).lost
