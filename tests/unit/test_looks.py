"""Health checks of a GPU: the result for each answer of the driver."""

from types import SimpleNamespace

import pytest

from health.condition import Look
from health.looks import look
from health.nvml import Code, Nvml, NvmlError
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, gpu, refusal

MEMORY, FIELDS = "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFieldValues"
ECC, ROWS = "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetRemappedRows"
LINK, LIMIT = "nvmlDeviceGetNvLinkState", "nvmlDeviceGetTemperatureThreshold"
HEAT = "nvmlDeviceGetTemperature"


def field(value: int, result: int = 0) -> list[SimpleNamespace]:
    """Return NVML's answer for one field."""
    return [SimpleNamespace(nvmlReturn=result, value=SimpleNamespace(uiVal=value))]


def links(*states: int) -> object:
    """Return an NVML function for the states of a GPU that has only these links."""

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
"""The driver's answers for a Healthy GPU."""

OLD = {**WELL, FIELDS: field(0, Code.NOT_SUPPORTED)}
"""The answers of a driver without recovery actions."""


def seen(answers: dict[str, object], nvlinks: int = 0) -> Look:
    """Return the check of a GPU whose driver gives these answers."""
    return look(Nvml(Driver(**answers)), "a handle", gpu(nvlinks=nvlinks))


def reason(kind: ReasonKind, detail: str = "") -> Look:
    """Return a check with one ailment and recovery action 0, which means none."""
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
    "at its shutdown temperature": ({HEAT: 100}, reason(ReasonKind.THERMAL)),
    "hotter": ({HEAT: 120}, reason(ReasonKind.THERMAL)),
    "no limit": ({HEAT: 120, LIMIT: 0}, Look(action=0)),
    "uncorrected errors of no consequence": ({ECC: 5}, Look(action=0)),
}


@pytest.mark.parametrize(("answers", "expected"), CHECKS.values(), ids=CHECKS)
def test_each_check(answers: dict[str, object], expected: Look) -> None:
    """Each check finds its own ailment, with the right detail."""
    assert seen({**WELL, **answers}, nvlinks=4) == expected


def test_all_at_once() -> None:
    """Several ailments at once are all found."""
    wrong = {FIELDS: field(1), ROWS: (0, 0, 0, 1), LINK: links(0, 1), HEAT: 100}
    found = seen({**WELL, **wrong}, nvlinks=2)
    assert {ailment.kind for ailment in found.ailments} == {
        ReasonKind.RECOVERY_ACTION,
        ReasonKind.ROW_REMAP,
        ReasonKind.NVLINK_DOWN,
        ReasonKind.THERMAL,
    }


ABSENT = [Code.INVALID_ARGUMENT, Code.NOT_SUPPORTED, Code.NOT_FOUND, Code.FUNCTION_NOT_FOUND]


@pytest.mark.parametrize("name", WELL)
@pytest.mark.parametrize("code", ABSENT)
def test_an_unsupported_query_is_no_ailment(name: str, code: Code) -> None:
    """A query that the GPU or the driver does not support is no ailment."""
    action = None if name == FIELDS else 0
    assert seen({**WELL, name: refusal(code)}) == Look(action=action)


@pytest.mark.parametrize("name", WELL)
def test_a_missing_function_is_no_ailment(name: str) -> None:
    """A function that an old binding lacks is no ailment."""
    answers = {other: answer for other, answer in WELL.items() if other != name}
    assert seen(answers) == Look(action=None if name == FIELDS else 0)


def test_a_gpu_without_any_query_has_no_ailment() -> None:
    """A GPU that supports no query at all has no ailment, and no proof of recovery."""
    assert seen({}) == Look()


@pytest.mark.parametrize("result", [*ABSENT, Code.NO_PERMISSION, 999])
def test_a_field_that_cannot_be_read_is_no_proof(result: int) -> None:
    """A field with its own error gives no recovery action, although the call succeeded."""
    assert seen({**WELL, FIELDS: field(0, result)}).action is None


@pytest.mark.parametrize("answer", [[], None], ids=["none", "nothing"])
def test_no_field(answer: object) -> None:
    """An empty answer for fields gives no recovery action."""
    assert seen({**WELL, FIELDS: answer}) == Look()


def test_uncorrected_errors_without_recovery_action() -> None:
    """Without a recovery action from the driver, uncorrected errors are an ailment."""
    ailments = frozenset({Reason(ReasonKind.ECC, "5")})
    assert seen({**OLD, ECC: 5}) == Look(ailments=ailments)
    assert seen(OLD) == Look()


def test_a_gpu_without_nvlink_is_not_asked_for_links() -> None:
    """A GPU without NVLink is not asked for the state of its links."""
    assert seen({**WELL, LINK: AssertionError("asked")}) == Look(action=0)


@pytest.mark.parametrize("name", [name for name in WELL if name != ECC])
def test_lost(name: str) -> None:
    """A GPU is lost when any query returns GPU_IS_LOST."""
    assert seen({**WELL, name: refusal(Code.GPU_IS_LOST)}, nvlinks=4) == Look(lost=True)


@pytest.mark.parametrize("name", [name for name in WELL if name != ECC])
@pytest.mark.parametrize("code", [1, Code.NO_PERMISSION, Code.OPERATING_SYSTEM, 999])
def test_failed(name: str, code: int) -> None:
    """Any other error is a failed check that names the call and its error."""
    error = refusal(code)
    denied = code != 1
    expected = Look(failed=str(NvmlError(name, code, str(error))), denied=denied)
    assert seen({**WELL, name: error}, nvlinks=4) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [(Code.GPU_IS_LOST, True), (999, False)],
    ids=["lost", "failed"],
)
def test_a_failing_query_for_uncorrected_errors(code: int, *, expected: bool) -> None:
    """A failing query for uncorrected errors makes a check lost or failed, like the others."""
    found = seen({**OLD, ECC: refusal(code)})
    assert (found.lost, bool(found.failed)) == (expected, not expected)
