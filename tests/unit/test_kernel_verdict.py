"""What the events of the kernel log make of devices."""

import pytest
from msgspec.structs import replace

from health import kernel_verdict, verdict
from health.condition import Condition, Look
from health.kernel_log import DriverLoaded, Event, GpuLost, GpuReset, LoggedXid, SXid
from health.kernel_verdict import Report
from health.verdict import Conditions
from proto.messages import DeviceState, Gpu, Inventory
from proto.monitor import Recovery, XidPolicy
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu

PLAIN, MIG = gpu(0), mig_gpu(1, "1g.10gb", "3g.40gb")
LINKED = tuple(gpu(index, nvlinks=18) for index in (2, 3))
NODE = inventory(PLAIN, MIG, *LINKED)
ALL_FATAL, NONE_FATAL = XidPolicy(), XidPolicy(others_fatal=False)
IGNORED = XidPolicy(others_fatal=False, ignored=frozenset({149}))
FATAL_SWITCH = SXid("0000:c3:00.0", 24007, fatal=True, link=30, detail="Link 30 sourcetrack")
HARMLESS_SWITCH = SXid("0000:c3:00.0", 12028, fatal=False, link=32, detail="Link 32")
NO_QUIET = Recovery(quiet_period=0.0, probes=1)


def xid(
    code: int, of: Gpu = PLAIN, *, fatal: bool | None = None, gi: int | None = None
) -> LoggedXid:
    """Return an Xid of the kernel log."""
    return LoggedXid(of.pci_bus_id, code, gi=gi, fatal=fatal)


def reasons(conditions: Conditions) -> dict[str, set[str]]:
    """Return the reasons of each device that has one."""
    return {u: set(map(str, c.reasons)) for u, c in conditions.items() if c.reasons}


def after(event: Event, before: Conditions | None = None, now: float = 10.0) -> Conditions:
    """Return the conditions after an event, where all Xids are fatal."""
    return kernel_verdict.after(before or {}, NODE, event, ALL_FATAL, now)


@pytest.mark.parametrize(
    ("event", "hit"),
    [
        (xid(79), {PLAIN.uuid: {"xid 79"}}),
        (xid(79, gpu(7)), {}),
        (xid(149, fatal=True), {PLAIN.uuid: {"xid 149"}}),
        (xid(149), {PLAIN.uuid: {"xid 149"}}),
        (xid(149, fatal=False), {}),
        (xid(79, fatal=False), {}),
        (xid(94, MIG, gi=MIG.instances[0].gi), {MIG.instances[0].uuid: {"xid 94"}}),
        (xid(94, MIG, gi=99), {MIG.uuid: {"xid 94"}}),
        (FATAL_SWITCH, {linked.uuid: {"fabric SXid 24007"} for linked in LINKED}),
        (HARMLESS_SWITCH, {}),
        (GpuLost(PLAIN.pci_bus_id), {PLAIN.uuid: {"gpu-lost"}}),
        (GpuLost(""), {}),
        (GpuReset(PLAIN.pci_bus_id), {}),
        (DriverLoaded("580.105.08"), {}),
    ],
)
def test_an_event_hits_its_devices(event: Event, hit: dict[str, set[str]]) -> None:
    """An event makes the devices Unhealthy that it is about, and no others."""
    assert reasons(after(event)) == hit


def test_a_switch_that_is_known() -> None:
    """A fatal error of a switch hits only the GPUs that it connects, if the driver tells them."""
    first = replace(LINKED[0], switches=(FATAL_SWITCH.pci, "0000:00:09.0"))
    other = replace(gpu(7), nvlinks=18, switches=("0000:00:09.0",))
    known = inventory(first, other)
    after = kernel_verdict.after({}, known, FATAL_SWITCH, ALL_FATAL, 1.0)
    assert reasons(after) == {first.uuid: {"fabric SXid 24007"}}
    assert kernel_verdict.gpus(known, HARMLESS_SWITCH) == ()


def test_an_operator_decides_before_the_driver() -> None:
    """An Xid that the settings ignore is ignored though the driver calls it fatal."""
    event = xid(149, fatal=True)
    assert kernel_verdict.after({}, NODE, event, IGNORED, 1.0) == {}
    assert not kernel_verdict.is_fatal(event, IGNORED)


def test_the_driver_decides_before_the_catalogue() -> None:
    """The word decides against the catalogue, in both directions; without it, the catalogue."""
    fatal = kernel_verdict.after({}, NODE, xid(148, fatal=True), NONE_FATAL, 1.0)
    assert reasons(fatal) == {PLAIN.uuid: {"xid 148"}}
    assert kernel_verdict.is_fatal(xid(148, fatal=True), NONE_FATAL)
    assert not kernel_verdict.is_fatal(xid(149, fatal=False), ALL_FATAL)
    assert not kernel_verdict.is_fatal(xid(148), NONE_FATAL)
    assert kernel_verdict.is_fatal(xid(149), ALL_FATAL)


def test_the_gpus_of_an_event() -> None:
    """A line that names no GPU, and one about the driver, are about all."""
    assert kernel_verdict.gpus(NODE, GpuLost("")) == NODE.gpus
    assert kernel_verdict.gpus(NODE, DriverLoaded("1")) == NODE.gpus
    assert kernel_verdict.gpus(NODE, GpuReset(MIG.pci_bus_id)) == (MIG,)
    assert kernel_verdict.gpus(NODE, HARMLESS_SWITCH) == ()
    assert kernel_verdict.gpus(Inventory("", ()), FATAL_SWITCH) == ()


UNDECIDED = verdict.after_xid({}, [PLAIN.uuid], ALL_FATAL, 149, 10.0)
"""NVML has told of an Xid 149, and nobody has decided about it."""


def test_the_driver_acquits_what_nvml_told() -> None:
    """The word "Nonfatal" ends a fault at once that NVML's event was taken for."""
    ended = after(xid(149, fatal=False), UNDECIDED)[PLAIN.uuid]
    assert (ended.state, ended.reasons) == (DeviceState.HEALTHY, frozenset())
    assert ended.recoveries == 0


@pytest.mark.parametrize(
    "before",
    [
        verdict.after_xid(UNDECIDED, [PLAIN.uuid], ALL_FATAL, 79, 10.0),
        verdict.after_faults(
            UNDECIDED, [PLAIN.uuid], Reason(ReasonKind.XID, "79"), 10.0, undecided=True
        ),
    ],
    ids=["decided", "undecided"],
)
def test_an_acquittal_leaves_other_faults(before: Conditions) -> None:
    """Other faults of the device stay."""
    assert reasons(after(xid(149, fatal=False), before)) == {PLAIN.uuid: {"xid 79"}}


def test_an_acquittal_of_one_acquits_no_other() -> None:
    """If NVML told of more Xids than the log so far, the word is not about all of them."""
    event = xid(149, fatal=False)
    left = kernel_verdict.after_xid(UNDECIDED, NODE, Report(event, others=True), ALL_FATAL, 10.0)
    assert left == UNDECIDED


def test_the_word_fatal_is_final() -> None:
    """After the word "Fatal", neither a later "Nonfatal" nor the next check acquits."""
    fatal = after(xid(149, fatal=True), UNDECIDED)
    assert fatal[PLAIN.uuid].undecided == frozenset()
    assert after(xid(149, fatal=False), fatal) == fatal
    looked = verdict.after_looks(fatal, NODE, {PLAIN.uuid: Look(action=0)}, Recovery(), 20.0)
    assert looked[PLAIN.uuid].state is DeviceState.RECOVERING


def test_what_nvml_told_already_changes_nothing() -> None:
    """A line without a severity word is no second event."""
    told = verdict.after_xid({}, [PLAIN.uuid], ALL_FATAL, 79, 5.0)
    again = kernel_verdict.after_xid(told, NODE, Report(xid(79), news=False), ALL_FATAL, 6.0)
    assert again == told


@pytest.mark.parametrize("reset", [GpuReset(MIG.pci_bus_id), DriverLoaded("580.105.08")])
def test_a_reset_is_a_proof_for_old_drivers(reset: Event) -> None:
    """Without recovery actions, a device recovers after a reset in the log, with its instances."""
    faulty = after(xid(94, MIG, gi=MIG.instances[0].gi), after(xid(79, MIG)))
    look = {MIG.uuid: Look(action=None)}
    assert reasons(verdict.after_looks(faulty, NODE, look, NO_QUIET, 11.0)) == reasons(faulty)
    after_reset = after(reset, faulty)
    assert all(after_reset[u].reset_seen for u in (MIG.uuid, MIG.instances[0].uuid))
    assert reasons(verdict.after_looks(after_reset, NODE, look, NO_QUIET, 12.0)) == {}


def test_a_reset_is_no_proof_against_the_driver() -> None:
    """A driver that still asks for a recovery action after the reset is right."""
    after_reset = after(GpuReset(PLAIN.pci_bus_id), after(xid(79)))
    look = {PLAIN.uuid: Look(action=1)}
    (left,) = verdict.after_looks(after_reset, NODE, look, NO_QUIET, 12.0).values()
    assert left.state is DeviceState.UNHEALTHY


def test_a_fault_after_the_reset_needs_another() -> None:
    """A reset in the log proves nothing about a fault that came after it."""
    again = after(xid(79), after(GpuReset(PLAIN.pci_bus_id), after(xid(79))))
    assert not again[PLAIN.uuid].reset_seen


def test_a_reset_of_a_healthy_gpu() -> None:
    """A reset of a GPU without faults changes nothing."""
    before = {gpu_uuid(0): Condition()}
    assert after(GpuReset(PLAIN.pci_bus_id), before) == before
