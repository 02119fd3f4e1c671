"""Open the driver: find out what kind of node this is, and what answers as NVML on it."""

from pathlib import Path

import msgspec
from msgspec.structs import replace

from health import device_nodes, platform, platform_files
from health.lane import error_in_words
from health.nvml import Code, Nvml, NvmlError
from health.platform import NOTHING, Signs
from health.platform_files import LIBRARY
from health.tegra import TegraBinding
from health.wsl import WslBinding
from proto.monitor import Discovery, MonitorSettings
from proto.platform import Platform

UNKNOWN = Platform()


class Opened(msgspec.Struct, frozen=True):
    """The driver answers, and shows so many GPUs, lost ones included."""

    driver_version: str
    """Empty: the driver does not tell."""
    count: int
    signs: Signs = NOTHING
    """What shows the platform of the node."""


class Refused(msgspec.Struct, frozen=True):
    """The driver cannot be used."""

    error: str
    code: int | None
    """NVML's error code; None: an error of the operating system."""
    platform: Platform = UNKNOWN
    came_late: bool = False
    """Whether the node has device nodes that came after this container."""


def open_driver(nvml: Nvml, settings: MonitorSettings) -> Opened | Refused:
    """Look for the platform, load the binding, initialise NVML, and count the GPUs.

    A process does this once: initialising NVML again leaks memory and shows no added GPUs.
    """
    with nvml.doing("look for the platform"):
        signs = platform_files.find(settings)
    try:
        nvml.load(settings.binding, settings.binding_argument)
        signs = _start(nvml, signs, settings.discovery)
        return Opened(nvml.driver_version(), nvml.gpu_count(), signs)
    except Exception as error:  # noqa: BLE001 - a binding of another version may raise anything
        code = getattr(error, "code", None)
        with nvml.doing("look for device nodes"):
            late = device_nodes.came_late([Path(root) for root in settings.dev_roots])
        there = signs if code == Code.LIBRARY_NOT_FOUND else replace(signs, nvml=LIBRARY)
        return Refused(_words(error), code, platform.decide(there, settings.discovery, ()), late)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, NvmlError | OSError) else error_in_words(error)


def _start(nvml: Nvml, signs: Signs, strategy: Discovery) -> Signs:
    """Initialise NVML, or what answers in its place on this platform."""
    try:
        nvml.start()
    except NvmlError as error:
        if not platform.is_tegra_without_nvml(signs, strategy, error.code):
            raise
        nvml.use(lambda _: TegraBinding())
        return signs
    if signs.dxcore:
        nvml.use(WslBinding)
    return replace(signs, nvml=LIBRARY)
