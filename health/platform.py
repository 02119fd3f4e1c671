"""Decide what kind of node this is: from the files and the driver that it has.

Sources: go-nvlib's test for Tegra and WSL; the modes csv and wsl of NVIDIA's container toolkit.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from health.nvml import Code
from proto.messages import Gpu
from proto.monitor import Discovery
from proto.names import ALL
from proto.platform import Platform, PlatformKind
from proto.texts import few

INTEGRATED = ("(nvgpu)", "NVIDIA Thor")
"""What the names of integrated GPUs contain: `Orin (nvgpu)`, `NVIDIA Thor`."""

WITHOUT_NVML = "tegra"
"""UUID and model of the GPU of a Tegra without NVML, as NVIDIA's plugin calls the device."""

MISSING = frozenset({Code.LIBRARY_NOT_FOUND, Code.NOT_SUPPORTED, Code.FUNCTION_NOT_FOUND})
"""Answers to nvmlInit on a node that has no NVML."""


class Signs(msgspec.Struct, frozen=True):
    """What a node has; an empty text: it has not."""

    dxcore: str = ""
    """The library of WSL2 that reaches the driver of Windows."""
    tegra: str = ""
    """The file that shows that the node is a Tegra, with what it says."""
    nvml: str = ""
    """What answers as NVML."""


NOTHING = Signs()

NO_PLATFORM = Platform(
    PlatformKind.NONE, ("no NVML", "no libdxcore.so (WSL2)", "no file of a Tegra")
)


def is_integrated(signs: Signs, name: str, pci: str) -> bool:
    """Return whether the GPU with this *name* and PCI address is a part of a system on chip."""
    known = name == WITHOUT_NVML or any(word in name for word in INTEGRATED)
    return known or bool(signs.tegra and not pci)


def is_tegra_without_nvml(signs: Signs, strategy: Discovery, code: int | None) -> bool:
    """Return whether to serve the GPU of a Tegra, though nvmlInit answers *code*.

    Any other answer may be a fault of the driver, which is not hidden.
    """
    wanted = strategy is Discovery.TEGRA or (strategy is Discovery.AUTO and bool(signs.tegra))
    return wanted and code in MISSING


def named(signs: Signs, gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """Return *gpus* with the ID by which the container toolkit knows each of them on this node.

    On Tegra it knows indices: for a single GPU, nothing but `0` and `all`.
    """
    gpus = tuple(gpus)
    if signs.dxcore:
        return tuple(replace(gpu, toolkit_id=ALL) for gpu in gpus)
    if any(gpu.integrated for gpu in gpus):
        return tuple(replace(gpu, toolkit_id=str(gpu.index)) for gpu in gpus)
    return gpus


def toolkit_mode(signs: Signs, gpus: Iterable[Gpu]) -> str:
    """Return the mode in which nvidia-ctk finds the GPUs of this node."""
    if signs.dxcore:
        return "wsl"
    gpus = tuple(gpus)
    # Without a GPU, it is most likely the integrated one that has not answered yet.
    tegra = any(gpu.integrated for gpu in gpus) or bool(signs.tegra and not gpus)
    return "csv" if tegra else "nvml"


def decide(signs: Signs, strategy: Discovery, gpus: Sequence[Gpu]) -> Platform:
    """Return what kind of node has these *gpus*, and what shows it."""
    if signs.dxcore:
        return Platform(PlatformKind.WSL, (signs.dxcore, signs.nvml or "no NVML"))
    integrated = [gpu.name for gpu in gpus if gpu.integrated]
    discrete = [gpu.name for gpu in gpus if not gpu.integrated]
    forced = "deviceDiscoveryStrategy is tegra" if strategy is Discovery.TEGRA else ""
    sign = signs.tegra or forced
    if integrated or (sign and not gpus):
        kind = PlatformKind.TEGRA_DISCRETE if discrete else PlatformKind.TEGRA
        one = f"integrated GPU {few(integrated)}" if integrated else ""
        other = f"discrete GPU {few(discrete)}" if discrete else ""
        return Platform(kind, tuple(filter(None, (sign, signs.nvml or "no NVML", one, other))))
    if signs.nvml:
        # As a Tegra whose integrated GPU is switched off: NVIDIA's runtime counts it as such too.
        other = f"{signs.tegra}, but no integrated GPU" if signs.tegra else ""
        return Platform(PlatformKind.NVML, tuple(filter(None, (signs.nvml, other))))
    return NO_PLATFORM
