"""The names by which containers and CDI specifications know a device, and what has none.

The workers hand these names out, and the monitor looks for them in the CDI specification.
"""

from proto.messages import Gpu, MigInstance
from proto.worker import DeviceIdStrategy

DISPLAYS = frozenset({"DGX Display", "NVIDIA DGX Display"})
"""Display adapters: NVML lists them as GPUs, but they cannot compute."""


def is_display(gpu: Gpu) -> bool:
    """Return whether *gpu* is a display adapter, which is never advertised."""
    return gpu.name in DISPLAYS


ALL = "all"
"""The only name of a GPU on WSL2: the container toolkit passes all GPUs of the PC, or none."""

DXG = "/dev/dxg"
"""The only device node of GPUs on WSL2."""


def nodes_of(gpu: Gpu) -> tuple[str, ...]:
    """Return the device nodes of a whole GPU that a container needs.

    None of an integrated one: what it needs is in files of the container toolkit on the host.
    """
    if gpu.toolkit_id == ALL:
        return (DXG,)
    if gpu.integrated or gpu.minor is None:
        return ()
    return (f"/dev/nvidia{gpu.minor}",)


def index_of(gpu: Gpu, instance: MigInstance | None = None) -> str:
    """Return the index of a GPU, or `index:place` of a MIG instance, as nvidia-ctk names it."""
    return f"{gpu.index}:{instance.place}" if instance else str(gpu.index)


def handed_out(uuid: str, index: str, strategy: str) -> str:
    """Return the name of a device under a DeviceIdStrategy."""
    return index if strategy == DeviceIdStrategy.INDEX else uuid
