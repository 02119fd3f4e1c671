"""A check that returns ends a hang, whatever it says."""

import pytest

from health.condition import LOST, Look
from proto.messages import DeviceState
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import condition_after

HUNG = Look(hung="nvmlDeviceGetMemoryInfo")
BUSY = Reason(ReasonKind.UNREADABLE, "busy")


@pytest.mark.parametrize(
    ("answer", "state", "reasons"),
    [
        (Look(), DeviceState.HEALTHY, set()),
        (Look(lost=True), DeviceState.LOST, {LOST}),
        # At once: between a hang and an error, no pod may get the GPU.
        (Look(failed="busy"), DeviceState.UNHEALTHY, {BUSY}),
    ],
    ids=["passed", "lost", "failed"],
)
def test_the_answer_after_a_hang_decides(
    answer: Look, state: DeviceState, reasons: set[Reason]
) -> None:
    """The driver hangs no longer, and what it says about the device counts."""
    after = condition_after({1.0: HUNG, 2.0: answer}, Recovery())
    assert (after.state, set(after.reasons)) == (state, reasons)


def test_a_second_hang_names_its_own_call() -> None:
    """Only the newest call is a reason."""
    after = condition_after({1.0: HUNG, 2.0: Look(hung="nvmlDeviceGetName")}, Recovery())
    assert after.reasons == {Reason(ReasonKind.DRIVER_HANG, "nvmlDeviceGetName")}
