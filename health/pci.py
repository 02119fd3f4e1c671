"""GPUs on the PCI bus: how their addresses are written."""


def bus_id(text: str | bytes) -> str:
    """Return a PCI bus ID as the kernel writes it; NVML writes capitals and an 8-digit domain."""
    name = text.decode() if isinstance(text, bytes) else text
    domain, _, rest = name.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"
