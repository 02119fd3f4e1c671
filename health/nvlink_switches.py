"""Find the NVSwitches of a GPU: whose errors hit it, the kernel log tells only by their address."""

from health.nvml import NVLINK_MAX, Nvml, NvmlError
from health.pci import bus_id

SWITCH = 2
"""NVML_NVLINK_DEVICE_TYPE_SWITCH."""


def find(nvml: Nvml, handle: object) -> tuple[str, ...]:
    """Return the PCI addresses of the switches at the GPU's active NVLinks, as far as told."""
    found = set()
    try:
        for link in range(NVLINK_MAX):
            active = nvml.ask("nvmlDeviceGetNvLinkState", handle, link)
            if active is None:
                break
            if active and nvml.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == SWITCH:
                info = nvml.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
                found |= {bus_id(info.busId)} if info else set()
    except NvmlError:
        return ()  # then an error of a switch hits all GPUs that have NVLinks
    return tuple(sorted(found - {""}))
