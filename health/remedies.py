"""What to do about a device with several reasons: the strongest remedy, which covers the weaker.

The driver may ask for a reset of a GPU for which NVIDIA's catalogue recommends a reboot. Each is
right for its reason alone, but people can only do one of them first.
"""

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from health import recovery_actions
from health.advice import FAULTS, UNJOINED, Advice, advise, explain, xid_of
from health.xid_catalogue import Action
from proto.messages import DeviceState
from proto.reasons import Reason, ReasonKind


class Remedy(enum.StrEnum):
    """What a device needs, from the weakest to the strongest."""

    WAIT = "wait"
    """Nothing: the fault is gone, and the device becomes Healthy by itself."""
    CHECK = "check"
    """Somebody has to look: at the driver, the cooling, the settings, or who uses the device."""
    SUPPORT = "support"
    """Contact the support of NVIDIA or of the server's vendor, where no reset is known to help."""
    RESTART_APP = "restart-app"
    """Restart the application."""
    RESET = "reset"
    """Stop the pods that use the GPU, then reset the GPU."""
    RESET_FABRIC = "reset-fabric"
    """Reset all GPUs of the NVLink fabric together."""
    REBOOT = "reboot"
    """Drain the node and reboot it."""
    POWER_CYCLE = "power-cycle"
    """Drain the node, then power it off and on."""


WEAKEST_FIRST = tuple(Remedy)

OF_KINDS: Mapping[ReasonKind, Remedy] = MappingProxyType(
    {
        ReasonKind.XID: Remedy.RESET,
        ReasonKind.GPU_LOST: Remedy.REBOOT,
        ReasonKind.RECOVERY_ACTION: Remedy.RESET,
        ReasonKind.ECC: Remedy.RESET,
        ReasonKind.ROW_REMAP: Remedy.RESET,
        ReasonKind.DRIVER_HANG: Remedy.RESET,
        ReasonKind.NVLINK_DOWN: Remedy.RESET_FABRIC,
        ReasonKind.FABRIC: Remedy.RESET_FABRIC,
        ReasonKind.CLOCKS: Remedy.RESET,
        ReasonKind.PCIE: Remedy.REBOOT,
        ReasonKind.GPU_MISSING: Remedy.REBOOT,
    }
)
"""The remedy for a kind of reason; any other kind has to be looked at."""

OF_XIDS: Mapping[Action, Remedy] = MappingProxyType(
    {
        Action.IGNORE: Remedy.CHECK,
        Action.RESTART_APP: Remedy.RESTART_APP,
        Action.RESET_GPU: Remedy.RESET,
        Action.REBOOT: Remedy.REBOOT,
        Action.CONTACT_SUPPORT: Remedy.SUPPORT,
    }
)

OF_ACTIONS = {2: Remedy.REBOOT, 6: Remedy.REBOOT, 7: Remedy.POWER_CYCLE}
"""The remedy for a recovery action of the driver by NVML's number; any other is a reset."""

OF_WORDS = {recovery_actions.words(action): remedy for action, remedy in OF_ACTIONS.items()}


class WhatToDo(NamedTuple):
    """What to do about a device."""

    remedy: Remedy
    advice: str


def remedy(reason: Reason, state: DeviceState | None = None) -> Remedy:
    """Return the remedy for a *reason* of a device in this *state*."""
    if state is DeviceState.RECOVERING and reason.kind in FAULTS:
        return Remedy.WAIT
    if xid := xid_of(reason):
        return OF_XIDS[xid.action]
    if reason.kind is ReasonKind.RECOVERY_ACTION:
        return OF_WORDS.get(reason.detail, Remedy.RESET)
    if advise(reason) is UNJOINED:
        return Remedy.CHECK
    return OF_KINDS.get(reason.kind, Remedy.CHECK)


def strength(found: Remedy) -> int:
    """Return a number that is larger for a stronger remedy."""
    return WEAKEST_FIRST.index(found)


def what_to_do(reasons: Iterable[Reason], state: DeviceState | None = None) -> WhatToDo | None:
    """Return what to do about a device with these *reasons*; None: it has none.

    What only has to be looked at does not contradict, so all of it is said.
    """
    told = [(remedy(reason, state), explain(reason, state)) for reason in reasons]
    if not told:
        return None
    strongest = max((found for found, _ in told), key=strength)
    texts = [advice.what_to_do for found, advice in told if found is strongest]
    if strongest is Remedy.CHECK:
        return WhatToDo(strongest, " ".join(dict.fromkeys(texts)))
    return WhatToDo(strongest, max(texts, key=len))  # the one that says more


def ordered(
    reasons: Iterable[Reason], state: DeviceState | None = None
) -> list[tuple[Reason, Advice]]:
    """Return the *reasons* with their texts, the one with the strongest remedy first.

    What the driver asks for comes after the fault for which it asks.
    """

    def place(reason: Reason) -> tuple[int, bool]:
        asked = reason.kind is ReasonKind.RECOVERY_ACTION
        return -strength(remedy(reason, state)), asked

    return [(reason, explain(reason, state)) for reason in sorted(reasons, key=place)]
