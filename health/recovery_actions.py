"""The recovery actions that a driver asks for (NVML field 230), and what each says about the GPU.

Sources: nvmlDeviceGpuRecoveryAction_t, and the page "Error Recovery and Response Flags" of NVIDIA's
guide to GPU memory errors. That action 5 is not about the GPU is also how NVIDIA's DRA driver for
GPUs reads it. The binding nvidia-ml-py 13.580 alone calls 5 a reset of the bus: NVML's change log
names no such value, later versions of the binding have dropped it, and 6 is the reset of the bus.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class RecoveryAction(NamedTuple):
    """One value of nvmlDeviceGpuRecoveryAction_t."""

    name: str
    """NVML's name after NVML_GPU_RECOVERY_ACTION_."""
    words: str
    """What the driver asks for; the detail of the reason `recovery-action`."""
    meaning: str
    what_to_do: str
    of_gpu: bool = True
    """Whether the GPU has a fault; if not, it stays Healthy."""


ACTIONS: Mapping[int, RecoveryAction] = MappingProxyType(
    {
        0: RecoveryAction(
            "NONE", "nothing", "The GPU needs no recovery.", "Nothing.", of_gpu=False
        ),
        1: RecoveryAction(
            "GPU_RESET",
            "reset the GPU",
            "The GPU has a fault that only a reset clears.",
            "Stop the pods that use the GPU, then reset the GPU.",
        ),
        2: RecoveryAction(
            "NODE_REBOOT",
            "reboot the node",
            "The fault may have left the operating system in an inconsistent state.",
            "Drain the node and reboot it.",
        ),
        3: RecoveryAction(
            "DRAIN_P2P",
            "drain peer-to-peer traffic",
            "The GPU has a fault that the driver can handle only without peer-to-peer traffic. "
            "After that the driver asks for another action, or for none.",
            "Stop the pods that use this GPU together with other GPUs, and switch UVM persistence "
            "mode off. If the driver still asks for it, reset the GPU.",
        ),
        4: RecoveryAction(
            "DRAIN_AND_RESET",
            "drain and reset the GPU",
            "The GPU works with less capacity, for example without a part of its memory. "
            "Work that is not affected can finish; new work should not start.",
            "Let the pods that use the GPU finish, then reset the GPU.",
        ),
        5: RecoveryAction(
            "RECOVER_IMEX_DOMAIN",
            "recover the IMEX domain",
            "The IMEX domain, in which nodes share GPU memory, needs a recovery. "
            "The GPU itself does not.",
            "Check the service nvidia-imex on all nodes of the IMEX domain.",
            of_gpu=False,
        ),
        6: RecoveryAction(
            "BUS_RESET",
            "reset the bus",
            "The GPU has a fault that only a reset of its PCIe bus clears.",
            "Drain the node, then reset the PCIe bus of the GPU, or reboot the node.",
        ),
        7: RecoveryAction(
            "SYSTEM_REBOOT",
            "reboot the system",
            "The fault needs a restart of the whole system.",
            "Drain the node, then power it off and on.",
        ),
    }
)
"""All actions by NVML's number; any other number counts as a fault of the GPU."""


def words(action: int) -> str:
    """Return what the driver asks for with the number *action*."""
    known = ACTIONS.get(action)
    return known.words if known else f"unknown action {action}"


def acquits(action: int | None) -> bool:
    """Return whether the driver says with *action* that the GPU has no fault; None: no answer."""
    known = None if action is None else ACTIONS.get(action)
    return bool(known and not known.of_gpu)
