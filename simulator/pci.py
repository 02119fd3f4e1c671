"""What the kernel shows of a simulated GPU on the PCI bus."""

from simulator.node import SimulatedGpu, SimulatedHost

SPACE = 256
"""Bytes of the configuration space."""

CAPABILITY, LENGTH = 0x40, 3 + 2 + 2 + 20
"""Where the vendor-specific capability of a virtual GPU begins, and its length."""


def pci_class(gpu: SimulatedGpu) -> str:
    """Return the content of the file `class`: a VGA controller, or else a 3D controller."""
    return "0x030000\n" if gpu.outputs else "0x030200\n"


def space(gpu: SimulatedGpu) -> bytes:
    """Return the configuration space; a virtual GPU has a capability that describes its host."""
    bytes_of = bytearray(SPACE)
    bytes_of[0:2] = b"\xde\x10"  # NVIDIA
    if gpu.vgpu:
        bytes_of[0x06] = 0x10  # there are capabilities
        bytes_of[0x34] = CAPABILITY
        bytes_of[CAPABILITY : CAPABILITY + LENGTH] = _capability(gpu.vgpu)
    return bytes(bytes_of)


def _capability(host: SimulatedHost) -> bytes:
    texts = (host.driver_version, host.driver_branch)
    record = bytes([0, 22]) + b"".join(text.encode().ljust(10, b"\0")[:10] for text in texts)
    return bytes([0x09, 0, LENGTH]) + b"VF" + record
