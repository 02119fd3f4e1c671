"""Each of NVML's recovery actions: what a check shows, and what it does to a device's health."""

from types import SimpleNamespace

import pynvml
import pytest

from health.advice import advise
from health.condition import Condition, Look, after_fault, after_look
from health.looks import look
from health.nvml import Nvml
from health.recovery_actions import ACTIONS, acquits, words
from proto.messages import DeviceState
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, gpu

XID = Reason(ReasonKind.XID, "79")
RECOVERY = Recovery(quiet_period=10.0, probes=1)
H, U, R = DeviceState.HEALTHY, DeviceState.UNHEALTHY, DeviceState.RECOVERING

MEANINGS: dict[int, tuple[str, DeviceState, DeviceState]] = {
    0: ("", H, R),
    1: ("reset the GPU", U, U),
    2: ("reboot the node", U, U),
    3: ("drain peer-to-peer traffic", U, U),
    4: ("drain and reset the GPU", U, U),
    5: ("", H, R),
    6: ("reset the bus", U, U),
    7: ("reboot the system", U, U),
    8: ("unknown action 8", U, U),
    99: ("unknown action 99", U, U),
}
"""By action: the reason's detail, and the next state of a Healthy and of a faulty GPU."""


def seen(action: int) -> Look:
    """Return the check of a GPU whose driver asks for this recovery action."""
    field = [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=action))]
    return look(Nvml(Driver(nvmlDeviceGetFieldValues=field)), "a handle", gpu())


@pytest.mark.parametrize("action", MEANINGS)
def test_what_a_check_shows(action: int) -> None:
    """A check has the action's number; it is an ailment unless the GPU has no fault."""
    detail = MEANINGS[action][0]
    ailments = {Reason(ReasonKind.RECOVERY_ACTION, detail)} if detail else set()
    assert seen(action) == Look(ailments=frozenset(ailments), action=action)


@pytest.mark.parametrize("action", MEANINGS)
def test_what_a_healthy_gpu_becomes(action: int) -> None:
    """Each action makes a Healthy GPU Unhealthy, except "none" and the IMEX domain's recovery."""
    state = MEANINGS[action][1]
    assert after_look(Condition(), seen(action), RECOVERY, 1.0).state is state


@pytest.mark.parametrize("action", MEANINGS)
def test_what_a_faulty_gpu_becomes(action: int) -> None:
    """An action that asks nothing of the GPU is proof that its fault is gone; no other is."""
    state = MEANINGS[action][2]
    faulty = after_fault(Condition(), XID, 0.0)
    proven = after_look(faulty, seen(action), RECOVERY, 1.0)
    assert (proven.state, proven.faults) == (state, frozenset({XID}))
    assert (after_look(proven, seen(action), RECOVERY, 11.0).state is H) is (state is R)


@pytest.mark.parametrize("action", MEANINGS)
def test_which_actions_acquit_the_gpu(action: int) -> None:
    """An action acquits the GPU exactly if it leaves a Healthy GPU Healthy."""
    assert acquits(action) is (MEANINGS[action][1] is H)


def test_no_answer_acquits_no_gpu() -> None:
    """A driver that reports no recovery action does not acquit the GPU."""
    assert not acquits(None)


def test_every_action_of_nvml_is_known() -> None:
    """The table has each action that the NVML binding names, under its number and name."""
    prefix = "NVML_GPU_RECOVERY_ACTION_"
    named = {v: k.removeprefix(prefix) for k, v in vars(pynvml).items() if k.startswith(prefix)}
    assert {number: action.name for number, action in ACTIONS.items()} == named


@pytest.mark.parametrize("number", [number for number in ACTIONS if MEANINGS[number][0]])
def test_the_advice_names_what_to_do(number: int) -> None:
    """The advice for the reason `recovery-action` is that of its action."""
    advice = advise(Reason(ReasonKind.RECOVERY_ACTION, words(number)))
    assert advice.words == "the driver asks for a recovery action"
    assert advice.what_to_do == ACTIONS[number].what_to_do


def test_the_advice_for_an_unknown_action() -> None:
    """The advice for an action that this version does not know is the general one."""
    general = advise(Reason(ReasonKind.RECOVERY_ACTION))
    assert advise(Reason(ReasonKind.RECOVERY_ACTION, words(99))) == general


def test_the_texts_are_sentences_and_differ() -> None:
    """Each action has its own words and meaning; its meaning and advice are sentences."""
    texts = [(action.words, action.meaning) for action in ACTIONS.values()]
    assert len(set(texts)) == len(texts)
    for action in ACTIONS.values():
        assert action.meaning.endswith(".")
        assert action.what_to_do.endswith(".")
