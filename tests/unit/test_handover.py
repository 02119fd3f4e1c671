"""What programs that repair nodes are told: remedies, fields, conditions and the taint."""

from dataclasses import replace

import msgspec
import pytest

from proto.fitness import fitness
from proto.messages import DeviceHealth
from proto.reasons import Reason, ReasonKind
from supervisor.cluster import handover
from supervisor.cluster.node_condition import MESSAGE_LIMIT, TYPE, UNHEALTHY, conditions, patch
from supervisor.cluster.node_events import decide
from supervisor.cluster.node_taint import HOLD, Outage, Taint, after
from supervisor.cluster.node_view import DeviceView, NodeView, view
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, mig_uuid, node_state

X79, X48 = Reason(ReasonKind.XID, "79"), Reason(ReasonKind.XID, "48")
HOT, LOST = Reason(ReasonKind.THERMAL), Reason(ReasonKind.GPU_LOST)


def device(*reasons: Reason, index: int = 0, held: bool | None = None) -> DeviceView:
    """Return the view of a GPU with these reasons."""
    found = tuple(sorted(reasons))
    return DeviceView(f"GPU {index}", f"GPU-{index}", str(index), found, found, held=held)


def node(*devices: DeviceView) -> NodeView:
    """Return the view of a node with these GPUs."""
    return NodeView(1, {found.gpu: found for found in devices})


@pytest.mark.parametrize(("held", "word"), [(True, "true"), (False, "false"), (None, "unknown")])
def test_the_fields(held: bool | None, word: str) -> None:  # noqa: FBT001
    """Programs are told GPU, reasons, remedy, and whether containers hold it."""
    told = handover.fields("GPU-0", device(X79, LOST, held=held))
    assert handover.line(told) == (
        f"gpu=0 uuid=GPU-0 gpu-uuid=GPU-0 reason=gpu-lost,xid:79 remedy=reboot held={word}"
    )
    assert handover.annotations(told) == {
        "gpu-sharing-plugin/gpu": "0",
        "gpu-sharing-plugin/uuid": "GPU-0",
        "gpu-sharing-plugin/gpu-uuid": "GPU-0",
        "gpu-sharing-plugin/reason": "gpu-lost,xid:79",
        "gpu-sharing-plugin/remedy": "reboot",
        "gpu-sharing-plugin/held": word,
    }


def test_who_holds_what() -> None:
    """A GPU is held if one of its instances is; without the kubelet's word it is unknown."""
    state = node_state({})
    known = inventory(gpu(0), mig_gpu(1, "1g.10gb", "1g.10gb"))
    uuids = [gpu_uuid(0), gpu_uuid(1), mig_uuid(1, 0), mig_uuid(1, 1)]
    state = msgspec.structs.replace(state, inventory=known, health=tuple(map(DeviceHealth, uuids)))
    for holdings, expected in (
        (None, [None, None, None, None]),
        ((), [False, False, False, False]),
        ((mig_uuid(1, 1),), [False, True, False, True]),
        ((gpu_uuid(0), "GPU-gone"), [True, False, False, False]),
    ):
        seen = view(state, fitness(state), holdings)
        assert [seen.devices[uuid].held for uuid in uuids] == expected
        assert [seen.devices[uuid].index for uuid in uuids] == ["0", "1", "1:0", "1:1"]


def test_a_new_holder_is_no_event() -> None:
    """Only a change of reasons creates an Event, which then has the fields."""
    well, ill = node(device()), node(device(X79, held=True))
    assert [event.told["held"] for event in decide(well, ill, 1.0)] == ["true", "true"]
    assert decide(ill, node(device(X79, held=False)), 2.0) == ()
    (healthy,) = decide(ill, well, 3.0)
    assert (healthy.told["reason"], healthy.told["remedy"]) == ("", "")


def test_the_conditions() -> None:
    """One condition is about fatal Xids, the other about all reasons and what to do."""
    xid, all_reasons = conditions(node(device(HOT), device(index=1)), "b-1")
    assert (xid.status, xid.reason, xid.message) == (False, "NoFatalXid", "boot b-1; no fatal Xid")
    assert (all_reasons.status, all_reasons.reason) == (True, "GpusUnhealthy")
    assert all_reasons.message == (
        "boot b-1; gpu=0 uuid=GPU-0 gpu-uuid=GPU-0 reason=thermal remedy=check held=unknown"
    )
    xid, _ = conditions(node(device(X79, X48, HOT)), "b-1")
    assert (xid.status, xid.reason) == (True, "FatalXid")
    assert xid.message == "boot b-1; Xid on GPU-0: 48, 79"
    _, well = conditions(node(device(), device(index=1)), "b-1")
    assert (well.status, well.reason) == (False, "GpusHealthy")
    assert well.message == "boot b-1; all GPUs healthy"


def test_the_messages_are_limited() -> None:
    """Messages with many Unhealthy GPUs are cut, and one says how many GPUs are left out."""
    many = node(*(replace(device(X79, index=n), gpu=f"GPU-{n:036}") for n in range(64)))
    xid, all_reasons = conditions(many, "b" * 36)
    assert len(xid.message) == MESSAGE_LIMIT
    assert len(all_reasons.message) <= MESSAGE_LIMIT
    shown = all_reasons.message.count("uuid=GPU") // 2
    assert all_reasons.message.endswith(f"; and {64 - shown} more")


@pytest.mark.parametrize("changed", [(), (TYPE,), (TYPE, UNHEALTHY)])
def test_the_patch(changed: tuple[str, ...]) -> None:
    """The patch has both conditions; lastTransitionTime is in those that changed."""
    made = patch(conditions(node(device(X79)), "b-1"), "now", changed)
    found = {patched["type"]: patched for patched in made["status"]["conditions"]}
    assert {*found} == {TYPE, UNHEALTHY}
    for kind, patched in found.items():
        assert patched["status"] == "True"
        assert patched.get("lastTransitionTime") == ("now" if kind in changed else None)
        assert patched["lastHeartbeatTime"] == "now"


def test_when_the_taint_is_wanted() -> None:
    """The taint is there while all GPUs are out for longer than a moment, with the worst reason."""
    some, everything = node(device(HOT), device(index=1)), node(device(HOT), device(LOST, index=1))
    assert Outage().after(some, 0.0).wanted(1000.0) == Taint()
    outage = Outage().after(everything, 10.0)
    assert outage.wanted(10.0 + HOLD - 0.1) is None
    assert outage.wanted(10.0 + HOLD) == Taint("gpu-lost")
    later = outage.after(node(device(HOT), device(HOT, index=1)), 20.0)
    assert later.wanted(10.0 + HOLD) == Taint("thermal")
    assert later.after(some, 50.0).wanted(1000.0) == Taint()
    assert Outage().after(NodeView(1, {}), 0.0).wanted(1000.0) == Taint()


def test_a_mig_instance_does_not_count_for_the_taint() -> None:
    """A GPU is out if it has a reason itself; the instances of a healthy GPU may be out."""
    instance = replace(device(X48), name="MIG instance 0:0")
    seen = NodeView(1, {"GPU-0": device(), "MIG-0": instance})
    assert Outage().after(seen, 0.0).since is None


OTHER = {"key": "nvidia.com/gpu", "effect": "NoSchedule", "timeAdded": "then"}
OURS = {"key": "nvidia.com/gpu-unhealthy", "value": "xid", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("before", "value", "expected"),
    [
        ([], "", []),
        ([OTHER], "", [OTHER]),
        ([OTHER, OURS], "", [OTHER]),
        ([OTHER], "xid", [OTHER, OURS]),
        ([OURS, OTHER], "xid", [OURS, OTHER]),
        ([OURS, OTHER], "thermal", [OTHER, {**OURS, "value": "thermal"}]),
        ([{**OURS, "effect": "NoExecute"}], "", [{**OURS, "effect": "NoExecute"}]),
    ],
)
def test_the_taints(
    before: list[dict[str, str]], value: str, expected: list[dict[str, str]]
) -> None:
    """Only our own taint changes; those of others, and their order, stay."""
    assert after(before, Taint(value)) == expected
