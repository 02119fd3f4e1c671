"""What a look at a GPU shows, by what the driver answers."""

from types import SimpleNamespace

import pytest

from health.condition import Look
from health.looks import ACTIONS, look
from health.nvml import Code, Nvml, NvmlError
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, refusal

MEMORY, FIELDS = "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFieldValues"
ECC, ROWS = "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetRemappedRows"
LINK, LIMIT = "nvmlDeviceGetNvLinkState", "nvmlDeviceGetTemperatureThreshold"
HEAT = "nvmlDeviceGetTemperature"


def field(value: int, result: int = 0) -> list[SimpleNamespace]:
    """Return the answer for one field."""
    return [SimpleNamespace(nvmlReturn=result, value=SimpleNamespace(uiVal=value))]


def links(*states: int) -> object:
    """Return a GPU's function for the state of a link, where it has just these."""

    def state(_: object, link: int) -> int:
        if link >= len(states):
            raise refusal(Code.INVALID_ARGUMENT)
        return states[link]

    return state


WELL: dict[str, object] = {
    MEMORY: SimpleNamespace(total=1 << 30),
    FIELDS: field(0),
    ECC: 0,
    ROWS: (0, 0, 0, 0),
    LINK: links(1, 1, 1, 1),
    LIMIT: 100,
    HEAT: 40,
}
"""The answers of a GPU on which all is well."""

OLD = {**WELL, FIELDS: field(0, Code.NOT_SUPPORTED)}
"""The answers of a driver that knows no recovery action."""


def seen(answers: dict[str, object], nvlinks: int = 0) -> Look:
    """Return what a look shows of a GPU with these *answers*."""
    return look(Nvml(Driver(**answers)), "a handle", nvlinks)


def reason(kind: ReasonKind, detail: str = "") -> Look:
    """Return the look of a GPU with one ailment, whose driver wants no recovery."""
    return Look(ailments=frozenset({Reason(kind, detail)}), action=0)


CHECKS: dict[str, tuple[dict[str, object], Look]] = {
    "well": ({}, Look(action=0)),
    "row failed": ({ROWS: (0, 1, 0, 1)}, reason(ReasonKind.ROW_REMAP, "failed")),
    "row pending": ({ROWS: (0, 1, 1, 0)}, reason(ReasonKind.ROW_REMAP, "pending")),
    "row failed and another pending": (
        {ROWS: (0, 2, 1, 1)},
        reason(ReasonKind.ROW_REMAP, "failed"),
    ),
    "rows remapped": ({ROWS: (7, 1, 0, 0)}, Look(action=0)),
    "one link down": ({LINK: links(1, 0, 1, 1)}, reason(ReasonKind.NVLINK_DOWN, "1 of 4 links")),
    "all links down": ({LINK: links(0, 0, 0, 0)}, reason(ReasonKind.NVLINK_DOWN, "4 of 4 links")),
    "more links than at the start": ({LINK: links(1, 1, 1, 1, 1)}, Look(action=0)),
    "just not too hot": ({HEAT: 99}, Look(action=0)),
    "as hot as makes it shut down": ({HEAT: 100}, reason(ReasonKind.THERMAL)),
    "hotter": ({HEAT: 120}, reason(ReasonKind.THERMAL)),
    "no limit": ({HEAT: 120, LIMIT: 0}, Look(action=0)),
    "uncorrected errors of no consequence": ({ECC: 5}, Look(action=0)),
}


@pytest.mark.parametrize(("answers", "expected"), CHECKS.values(), ids=CHECKS)
def test_each_check(answers: dict[str, object], expected: Look) -> None:
    """Each thing that may be wrong is seen by itself, with what is to be known of it."""
    assert seen({**WELL, **answers}, nvlinks=4) == expected


def test_all_at_once() -> None:
    """Ailments come beside each other."""
    wrong = {FIELDS: field(1), ROWS: (0, 0, 0, 1), LINK: links(0, 1), HEAT: 100}
    found = seen({**WELL, **wrong}, nvlinks=2)
    assert {one.kind for one in found.ailments} == {
        ReasonKind.RECOVERY_ACTION,
        ReasonKind.ROW_REMAP,
        ReasonKind.NVLINK_DOWN,
        ReasonKind.THERMAL,
    }


@pytest.mark.parametrize("action", [*ACTIONS, 8, 99])
def test_a_recovery_action(action: int) -> None:
    """A recovery that the driver wants is named; a number that we do not know is no health."""
    text = ACTIONS.get(action, f"unknown action {action}")
    ailments = frozenset({Reason(ReasonKind.RECOVERY_ACTION, text)})
    assert seen({**WELL, FIELDS: field(action)}) == Look(ailments=ailments, action=action)


ABSENT = [Code.INVALID_ARGUMENT, Code.NOT_SUPPORTED, Code.NOT_FOUND, Code.FUNCTION_NOT_FOUND]


@pytest.mark.parametrize("name", WELL)
@pytest.mark.parametrize("code", ABSENT)
def test_what_is_not_supported_is_no_ailment(name: str, code: Code) -> None:
    """A GPU or a driver that has no such thing is not unhealthy for that."""
    action = None if name == FIELDS else 0
    assert seen({**WELL, name: refusal(code)}) == Look(action=action)


@pytest.mark.parametrize("name", WELL)
def test_what_the_binding_lacks_is_no_ailment(name: str) -> None:
    """An old binding without a function is as a driver without it."""
    answers = {other: answer for other, answer in WELL.items() if other != name}
    assert seen(answers) == Look(action=None if name == FIELDS else 0)


def test_a_gpu_that_tells_nothing_at_all_is_well() -> None:
    """Where nothing can be asked nothing is wrong, and nothing is proven either."""
    assert seen({}) == Look()


@pytest.mark.parametrize("result", [*ABSENT, Code.NO_PERMISSION, 999])
def test_a_field_has_an_answer_of_its_own(result: int) -> None:
    """A call that goes well may have no value: then the driver has not said that all is well."""
    assert seen({**WELL, FIELDS: field(0, result)}).action is None


@pytest.mark.parametrize("answer", [[], None], ids=["none", "nothing"])
def test_no_field(answer: object) -> None:
    """An empty answer is no word of health."""
    assert seen({**WELL, FIELDS: answer}) == Look()


def test_uncorrected_errors_where_the_driver_does_not_say_what_they_call_for() -> None:
    """Without a recovery action the count itself is the reason."""
    ailments = frozenset({Reason(ReasonKind.ECC, "5")})
    assert seen({**OLD, ECC: 5}) == Look(ailments=ailments)
    assert seen(OLD) == Look()


def test_links_are_not_asked_for_where_there_were_none() -> None:
    """A GPU without NVLink costs no calls for it."""
    assert seen({**WELL, LINK: AssertionError("asked")}) == Look(action=0)


@pytest.mark.parametrize("name", [name for name in WELL if name != ECC])
def test_lost(name: str) -> None:
    """A GPU is lost whichever call says so."""
    assert seen({**WELL, name: refusal(Code.GPU_IS_LOST)}, nvlinks=4) == Look(lost=True)


@pytest.mark.parametrize("name", [name for name in WELL if name != ECC])
@pytest.mark.parametrize("code", [1, Code.NO_PERMISSION, 999])
def test_failed(name: str, code: int) -> None:
    """Any other error is a failed look, which says what failed and why."""
    error = refusal(code)
    denied = code in {Code.NO_PERMISSION, Code.UNKNOWN}
    expected = Look(failed=str(NvmlError(name, code, str(error))), denied=denied)
    assert seen({**WELL, name: error}, nvlinks=4) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(Code.GPU_IS_LOST, True), (999, False)],
    ids=["lost", "failed"],
)
def test_errors_of_the_count_of_errors(code: int, *, expected: bool) -> None:
    """The count is a call as the others where it is asked for."""
    found = seen({**OLD, ECC: refusal(code)})
    assert (found.lost, bool(found.failed)) == (expected, not expected)
