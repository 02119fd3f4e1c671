"""What to do about a device with several reasons."""

import pytest

from health.recovery_actions import ACTIONS, words
from health.remedies import WEAKEST_FIRST, Remedy, ordered, remedy, strength, what_to_do
from health.xid_catalogue import TABLE, Action
from proto.messages import DeviceState
from proto.reasons import Reason, ReasonKind
from simulator.node import REBOOTS

RESET = "Stop the pods that use the GPU, then reset the GPU."
REBOOT = "Drain the node and reboot it."
ASKS_RESET = Reason(ReasonKind.RECOVERY_ACTION, "reset the GPU")
ASKS_REBOOT = Reason(ReasonKind.RECOVERY_ACTION, "reboot the node")

CASES: dict[str, tuple[tuple[Reason, ...], Remedy, str]] = {
    "the catalogue asks for more than the driver": (
        (ASKS_RESET, Reason(ReasonKind.XID, "79")),
        Remedy.REBOOT,
        REBOOT,
    ),
    "the driver asks for more than the catalogue": (
        (Reason(ReasonKind.XID, "48"), ASKS_REBOOT),
        Remedy.REBOOT,
        REBOOT,
    ),
    "both ask for the same": ((Reason(ReasonKind.XID, "48"), ASKS_RESET), Remedy.RESET, RESET),
    "one says more": (
        (Reason(ReasonKind.ECC), Reason(ReasonKind.ROW_REMAP)),
        Remedy.RESET,
        f"{RESET} If remapping fails again, replace the card.",
    ),
    "a reset is known to help": (
        (Reason(ReasonKind.XID, "166"), ASKS_RESET),
        Remedy.RESET,
        RESET,
    ),
    "a reset covers what is to be looked at": (
        (Reason(ReasonKind.THERMAL), ASKS_RESET),
        Remedy.RESET,
        RESET,
    ),
    "nothing that contradicts": (
        (Reason(ReasonKind.THERMAL), Reason(ReasonKind.MAINTENANCE)),
        Remedy.CHECK,
        "Check the cooling. Run gpu-sharing-plugin resume when the maintenance is done.",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("turned", [False, True])
def test_the_strongest_remedy(case: str, turned: bool) -> None:  # noqa: FBT001 - a parameter
    """Whatever the order of the reasons, the strongest remedy is what to do."""
    reasons, wanted, text = CASES[case]
    found = what_to_do(reversed(reasons) if turned else reasons)
    assert found
    assert found.remedy is wanted
    if wanted is not Remedy.CHECK or not turned:
        assert found.advice == text


def test_a_healthy_device_needs_nothing() -> None:
    """Without a reason there is nothing to do."""
    assert what_to_do(()) is None


def test_a_recovering_device_only_waits() -> None:
    """A fault that is gone needs no reset; what is still there does."""
    xid = Reason(ReasonKind.XID, "79")
    found = what_to_do((xid,), DeviceState.RECOVERING)
    assert found
    assert found.remedy is Remedy.WAIT
    still = what_to_do((xid, ASKS_RESET), DeviceState.RECOVERING)
    assert still
    assert still.remedy is Remedy.RESET


def test_the_gravest_reason_is_the_first() -> None:
    """Reasons are ordered by their remedies, and keep their own advice."""
    xid = Reason(ReasonKind.XID, "79")
    found = ordered((ASKS_RESET, Reason(ReasonKind.THERMAL), xid))
    assert [reason for reason, _ in found] == [xid, ASKS_RESET, Reason(ReasonKind.THERMAL)]
    assert [advice.what_to_do for _, advice in found] == [REBOOT, RESET, "Check the cooling."]


@pytest.mark.parametrize("kind", ReasonKind)
def test_every_reason_has_a_remedy(kind: ReasonKind) -> None:
    """Each kind of reason has a remedy that is more than to wait."""
    assert strength(remedy(Reason(kind))) > strength(Remedy.WAIT)


@pytest.mark.parametrize("number", [n for n, action in ACTIONS.items() if action.of_gpu])
def test_a_recovery_action_is_at_least_a_reset(number: int) -> None:
    """Each recovery action of a GPU is a reset or more, an unknown one too."""
    for detail in (words(number), words(99)):
        found = remedy(Reason(ReasonKind.RECOVERY_ACTION, detail))
        assert WEAKEST_FIRST.index(found) >= WEAKEST_FIRST.index(Remedy.RESET)


def test_the_simulator_asks_for_a_reboot_where_the_catalogue_does() -> None:
    """The simulated driver asks for a reboot after the Xids for which NVIDIA's catalogue does."""
    assert {xid for xid, entry in TABLE.items() if entry.action is Action.REBOOT} == REBOOTS
