"""Whether CUDA can use a GPU that NVML describes well: what is asked, and what is decided."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from health import readiness
from health.condition import Condition, Look, after_look
from health.nvml import ABSENT, Code, Nvml, NvmlError
from health.readiness import READY, Readiness
from health.readiness_calls import find
from proto.facts import GpuFacts
from proto.messages import DeviceState, Gpu
from proto.monitor import LicenceRule, ReadinessRules, Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, gpu, refusal

RULES, STRICT = ReadinessRules(), ReadinessRules(licence=LicenceRule.UNHEALTHY)
VIRTUAL = gpu(facts=GpuFacts(virtual=True))
CC, FABRIC, LICENCE = ReasonKind.CC_NOT_READY, ReasonKind.FABRIC, ReasonKind.LICENCE
STATE, READY_STATE = "nvmlSystemGetConfComputeState", "nvmlSystemGetConfComputeGpusReadyState"
FABRIC_INFO = "nvmlDeviceGetGpuFabricInfoV"
FEATURES = "nvmlDeviceGetGridLicensableFeatures_v4"


def fabric(state: int, status: int = 0) -> Any:
    """Return the function that reports this state of a GPU's fabric."""

    def ask(handle: object, info: Any) -> None:
        del handle
        info.contents.state, info.contents.status = state, status

    return ask


def features(*licensed: int, supported: int = 1) -> SimpleNamespace:
    """Return the licensable features of a virtual GPU."""
    entries = [SimpleNamespace(featureState=state) for state in (*licensed, 1, 1, 1)[:3]]
    return SimpleNamespace(
        isGridLicenseSupported=supported,
        licensableFeaturesCount=len(licensed),
        gridLicensableFeatures=entries,
    )


def found(
    answers: Mapping[str, object], rules: ReadinessRules = RULES, mine: Gpu = VIRTUAL
) -> Readiness:
    """Return what a check finds when the driver gives these answers, and knows nothing else."""
    return find(Nvml(Driver(**answers)), "a handle", mine, rules)


def cc(feature: int, ready: object) -> dict[str, object]:
    """Return the answers about confidential computing."""
    return {STATE: SimpleNamespace(ccFeature=feature), READY_STATE: ready}


FOUND: dict[str, tuple[dict[str, object], Readiness]] = {
    "CC not ready": (cc(1, 0), Readiness(frozenset({Reason(CC)}))),
    "CC ready": (cc(1, 1), READY),
    "CC off, whatever the state": (cc(0, 0), READY),
    "CC with an unknown state": (cc(1, refusal(999)), Readiness(unknown=frozenset({CC}))),
    "not started": ({FABRIC_INFO: fabric(1)}, Readiness(joining="not started", patience=120.0)),
    "in progress": ({FABRIC_INFO: fabric(2)}, Readiness(joining="in progress", patience=120.0)),
    "joined": ({FABRIC_INFO: fabric(3)}, READY),
    "failed": (
        {FABRIC_INFO: fabric(3, 17)},
        Readiness(joining="failed with NVML error 17", patience=120.0),
    ),
    "no fabric": ({FABRIC_INFO: fabric(0)}, READY),
    "another state": ({FABRIC_INFO: fabric(9)}, Readiness(joining="state 9", patience=120.0)),
    "unknown fabric": ({FABRIC_INFO: refusal(999)}, Readiness(unknown=frozenset({FABRIC}))),
    "licensed": ({FEATURES: features(0, 1)}, Readiness(licensed=True)),
    "unlicensed": ({FEATURES: features(0, 0)}, Readiness(licensed=False)),
    "no licence needed": ({FEATURES: features(0, supported=0)}, READY),
    "no features": ({FEATURES: features()}, READY),
    "unknown licence": ({FEATURES: refusal(999)}, READY),
}


@pytest.mark.parametrize(("answers", "expected"), FOUND.values(), ids=FOUND)
def test_what_a_check_finds(answers: dict[str, object], expected: Readiness) -> None:
    """Each state is found; a call that fails is no answer, and no fault."""
    assert found(answers) == expected


@pytest.mark.parametrize("code", sorted(ABSENT))
@pytest.mark.parametrize("call", [STATE, FABRIC_INFO, FEATURES])
def test_what_is_not_supported_is_absent(code: int, call: str) -> None:
    """An answer that means "not supported" is no fault, and nothing stays as it was."""
    assert found({call: refusal(code)}, STRICT) == READY


@pytest.mark.parametrize("call", [STATE, FABRIC_INFO, FEATURES])
def test_a_lost_gpu_is_lost(call: str) -> None:
    """A GPU that is lost during the questions is no GPU that is not ready."""
    with pytest.raises(NvmlError) as raised:
        found({call: refusal(Code.GPU_IS_LOST)})
    assert raised.value.code == Code.GPU_IS_LOST


def test_a_licence_that_is_required() -> None:
    """With the rule `unhealthy`, a missing licence is a reason, and an unknown one stays."""
    assert found({FEATURES: features(0)}, STRICT) == Readiness(
        frozenset({Reason(LICENCE)}), licensed=False
    )
    assert found({FEATURES: refusal(999)}, STRICT).unknown == {LICENCE}


def test_who_is_asked_for_a_licence() -> None:
    """Only virtual GPUs; where the facts do not tell yet, the driver does."""
    answers: dict[str, object] = {FEATURES: features(0)}
    assert found(answers, mine=gpu(facts=GpuFacts(virtual=False))) == READY
    mode = "nvmlDeviceGetVirtualizationMode"
    assert found({**answers, mode: 1}, mine=gpu()) == READY
    assert found({**answers, mode: 2}, mine=gpu()).licensed is False


def test_who_need_not_join_a_fabric() -> None:
    """A GPU in MIG mode uses no NVLink; with `fabricAfter: 0`, no GPU is asked."""
    answers: dict[str, object] = {FABRIC_INFO: fabric(2)}
    assert found(answers, mine=replace(VIRTUAL, mig_enabled=True)) == READY
    assert found(answers, ReadinessRules(fabric_after=0.0)) == READY


JOINING = Readiness(joining="in progress", patience=120.0)
LATE = frozenset({Reason(FABRIC, "not joined: in progress")})
UNKNOWN = Readiness(unknown=frozenset({FABRIC}))


@pytest.mark.parametrize(
    ("before", "answer", "now", "expected"),
    [
        (None, JOINING, 10.0, 10.0),
        (10.0, JOINING, 90.0, 10.0),
        (10.0, UNKNOWN, 90.0, 10.0),
        (None, UNKNOWN, 90.0, None),
        (10.0, READY, 90.0, None),
    ],
    ids=["begins", "goes on", "unknown", "never known", "joined"],
)
def test_since_when_it_joins(
    before: float | None, answer: Readiness, now: float, expected: float | None
) -> None:
    """The time counts from the first check that found it joining to the one that did not."""
    assert readiness.joining_since(before, answer, now) == expected


def seen(before: Condition, answer: Readiness, now: float) -> Condition:
    """Return the condition after a check with this *answer*."""
    return after_look(before, Look(ready=answer), Recovery(), now)


def test_a_fabric_has_two_minutes() -> None:
    """A GPU is Unhealthy after two minutes without its fabric, until a check finds it joined."""
    first = seen(Condition(), JOINING, 1000.0)
    assert (first.state, first.reasons) == (DeviceState.HEALTHY, frozenset())
    assert seen(first, JOINING, 1119.0).state is DeviceState.HEALTHY
    late = seen(first, JOINING, 1120.0)
    assert (late.state, late.reasons) == (DeviceState.UNHEALTHY, LATE)
    # A check without an answer makes nothing Healthy.
    unknown = seen(late, UNKNOWN, 1125.0)
    assert (unknown.state, unknown.reasons) == (DeviceState.UNHEALTHY, LATE)
    joined = seen(unknown, READY, 1130.0)
    assert (joined.state, joined.reasons) == (DeviceState.HEALTHY, frozenset())
    assert joined.joining_since is None


def test_a_failed_check_forgets_no_time() -> None:
    """While checks fail, the time of a GPU without its fabric goes on."""
    first = seen(Condition(), JOINING, 1000.0)
    failed = after_look(first, Look(failed="an error"), Recovery(), 1060.0)
    assert seen(failed, JOINING, 1130.0).reasons == LATE


def test_other_reasons_end_at_once() -> None:
    """A GPU that accepts work, or has a licence again, is Healthy after one check."""
    ailments = frozenset({Reason(CC), Reason(LICENCE)})
    ill = seen(Condition(), Readiness(ailments), 1.0)
    assert (ill.state, ill.reasons) == (DeviceState.UNHEALTHY, ailments)
    half = seen(ill, Readiness(unknown=frozenset({LICENCE})), 2.0)
    assert half.reasons == {Reason(LICENCE)}
    assert seen(half, READY, 3.0).state is DeviceState.HEALTHY
