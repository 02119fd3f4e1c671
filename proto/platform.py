"""What kind of node this is, as far as containers get their GPUs in another way."""

import enum

import msgspec


class PlatformKind(enum.StrEnum):
    """How GPUs are found on the node, and passed to containers."""

    NVML = "nvml"
    """GPUs with device nodes of their own, found with NVML."""
    WSL = "wsl"
    """WSL2: containers get all GPUs of the PC or none, through /dev/dxg."""
    TEGRA = "tegra"
    """A system on chip with an integrated GPU, such as Jetson Orin and Thor."""
    TEGRA_DISCRETE = "tegra-discrete"
    """The same with a discrete GPU beside the integrated one, such as IGX Orin."""
    NONE = "none"
    """No sign of any of them."""


class Platform(msgspec.Struct, frozen=True):
    """The kind of a node, and what shows it."""

    kind: PlatformKind = PlatformKind.NONE
    evidence: tuple[str, ...] = ()
    """What was found, or of `none` what was looked for."""
