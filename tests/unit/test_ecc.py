"""A GPU that counted memory errors, and does not any more, has a fault; ECC mode off is none."""

import pytest

from health.condition import Look
from health.ecc import counts_errors
from health.known_good import with_known_good
from health.looks import look
from health.nvml import Code, Nvml, NvmlError
from proto.messages import Gpu
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import Driver, gpu, mig_gpu, refusal

ERRORS, MODE = "nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetEccMode"
ABSENT = refusal(Code.NOT_SUPPORTED)
ON, OFF = [1, 1], [0, 1]
"""NVML's answers for the mode now and after the next reset."""

SILENT = frozenset({Reason(ReasonKind.ECC, "the error counter can no longer be read")})

ANSWERS: dict[str, tuple[object, object, bool | None]] = {
    "no errors": (0, ON, True),
    "errors": (5, ON, True),
    "no errors, no mode": (0, ABSENT, True),
    "off": (ABSENT, OFF, False),
    "silent, on": (ABSENT, ON, None),
    "silent, no mode": (ABSENT, ABSENT, None),
    "silent, mode without an answer": (ABSENT, None, None),
    "lost": (refusal(Code.GPU_IS_LOST), ON, None),
    "lost after the counter": (ABSENT, refusal(Code.GPU_IS_LOST), None),
}
"""By name: the answers for errors and mode, and what is known then."""


def driver(errors: object, mode: object) -> Nvml:
    """Return a driver without recovery actions that gives these answers."""
    return Nvml(Driver(**{ERRORS: errors, MODE: mode}))


@pytest.mark.parametrize(("errors", "mode", "known"), ANSWERS.values(), ids=ANSWERS)
def test_what_an_enumeration_knows(errors: object, mode: object, *, known: bool | None) -> None:
    """A GPU counts errors if it answers; a query that fails does not fail the enumeration."""
    assert counts_errors(driver(errors, mode), "a handle") is known


LOOKS: dict[str, tuple[bool | None, object, object, Look]] = {
    "counted, counts": (True, 0, ON, Look()),
    "counted, silent": (True, ABSENT, ON, Look(ailments=SILENT)),
    "counted, silent, no mode": (True, ABSENT, ABSENT, Look(ailments=SILENT)),
    "counted, silent, function gone": (
        True,
        refusal(Code.FUNCTION_NOT_FOUND),
        ON,
        Look(ailments=SILENT),
    ),
    "counted, switched off": (True, ABSENT, OFF, Look()),
    "off": (False, ABSENT, ON, Look()),
    "never counted": (None, ABSENT, ON, Look()),
    "off, errors": (False, 3, ON, Look(ailments=frozenset({Reason(ReasonKind.ECC, "3")}))),
    "counted, mode lost": (True, ABSENT, refusal(Code.GPU_IS_LOST), Look(lost=True)),
    "counted, mode fails": (
        True,
        ABSENT,
        refusal(7),
        Look(failed=str(NvmlError(MODE, 7, str(refusal(7))))),
    ),
}
"""By name: what was known, the answers for errors and mode, and the check."""


@pytest.mark.parametrize(("known", "errors", "mode", "expected"), LOOKS.values(), ids=LOOKS)
def test_what_a_check_finds(
    errors: object, mode: object, expected: Look, *, known: bool | None
) -> None:
    """A counter that answered once and is silent now is a fault, unless ECC mode is off."""
    assert look(driver(errors, mode), "a handle", gpu(ecc=known)) == expected


@pytest.mark.parametrize(
    ("now", "before", "known"),
    [
        (None, True, True),
        (None, False, False),
        (None, None, None),
        (True, False, True),
        (True, None, True),
        (False, True, False),
        (False, None, False),
    ],
)
def test_what_is_remembered(*, now: bool | None, before: bool | None, known: bool | None) -> None:
    """A GPU that does not say now whether it counts errors is known from before."""
    assert with_known_good(gpu(ecc=now), (gpu(1, ecc=True), gpu(ecc=before))).ecc is known


OTHERS = {
    "another GPU": gpu(1, ecc=True, nvlinks=18),
    "another slot": gpu(ecc=True, nvlinks=18, pci_bus_id="0000:99:00.0"),
    "another MIG mode": mig_gpu(0, "1g.10gb", ecc=True, nvlinks=18),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_other_gpus_say_nothing(other: Gpu) -> None:
    """What is known of another GPU, slot or MIG mode is not known of this GPU."""
    assert with_known_good(gpu(), (other,)) == gpu()


def test_the_node_remembers() -> None:
    """The inventory of a new monitor has what the GPUs had before in this boot."""
    found = (gpu(0), gpu(1, nvlinks=2))
    known = (gpu(0, ecc=True, nvlinks=4), gpu(1, ecc=True, nvlinks=1))
    shown = tuple(with_known_good(device, known) for device in found)
    assert [(device.ecc, device.nvlinks) for device in shown] == [(True, 4), (True, 2)]
