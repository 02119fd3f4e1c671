"""The messages on the bus."""

from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.messages import (
    VERSION,
    DeviceHealth,
    FailedGpu,
    Gpu,
    Health,
    Inventory,
    Link,
    LinkLevel,
    MigInstance,
    NodeState,
    SenderState,
    UsageState,
    WorkerState,
    XidCount,
    decode,
    encode,
    topic,
)
from proto.reasons import Reason, ReasonKind
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from tests.unit.builders import node_state, worker_state

texts = st.text("aZ0 \n\0é☃𝄞", max_size=4)
numbers = st.integers(0, 2**63 - 1)
reasons = st.builds(Reason, st.sampled_from(ReasonKind), texts)
instances = st.builds(
    MigInstance,
    texts,
    numbers,
    numbers,
    numbers,
    texts,
    memory_mib=st.none() | numbers,
    capabilities=st.lists(numbers, max_size=2).map(tuple),
)
gpus = st.builds(
    Gpu,
    uuid=texts,
    index=numbers,
    minor=st.none() | numbers,
    pci_bus_id=texts,
    name=texts,
    memory_mib=st.none() | numbers,
    numa_node=st.none() | numbers,
    compute_capability=st.none() | texts,
    mig_enabled=st.booleans(),
    instances=st.lists(instances, max_size=2).map(tuple),
    events=st.booleans(),
)
inventories = st.builds(
    Inventory,
    driver_version=texts,
    gpus=st.lists(gpus, max_size=2).map(tuple),
    failed=st.lists(st.builds(FailedGpu, numbers, texts), max_size=2).map(tuple),
    nodes=st.lists(texts, max_size=2).map(tuple),
    cdi_kinds=st.lists(texts, max_size=2).map(tuple),
    links=st.lists(
        st.builds(Link, texts, texts, st.sampled_from(LinkLevel), numbers), max_size=2
    ).map(tuple),
)
device_healths = st.builds(DeviceHealth, texts, st.lists(reasons, max_size=2).map(tuple))
node_states = st.builds(
    NodeState,
    epoch=numbers,
    sequence=numbers,
    inventory=inventories,
    health=st.lists(device_healths, max_size=2).map(tuple),
    xids=st.lists(st.builds(XidCount, texts, numbers, numbers), max_size=2).map(tuple),
)
worker_states = st.builds(
    WorkerState,
    epoch=numbers,
    sequence=numbers,
    resource=texts,
    registered=st.booleans(),
    registrations=numbers,
    streams=numbers,
    healthy=numbers,
    unhealthy=numbers,
)

Message = NodeState | WorkerState
quick = settings(deadline=None, max_examples=30)


@quick
@given(node_states | worker_states)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    """A decoded message is equal to the encoded message, and has the same type."""
    arrived = decode(encode(message))
    assert arrived == message
    assert type(arrived) is type(message)


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
@pytest.mark.parametrize("message", [node_state({"A": ()}), worker_state()], ids=["node", "worker"])
def test_a_different_version_is_dropped(message: Message, version: int) -> None:
    """A message with a different version is dropped, even when it could be read."""
    assert decode(encode(message)) == message
    assert decode(encode(msgspec.structs.replace(message, version=version))) is None


@quick
@given(st.binary(max_size=64))
def test_garbage_is_dropped(data: bytes) -> None:
    """Random bytes are dropped without an error."""
    assert decode(data) is None


@quick
@given(node_states | worker_states, st.data())
def test_a_message_that_is_cut_is_dropped(message: Message, data: st.DataObject) -> None:
    """A truncated message is dropped without an error."""
    whole = encode(message)
    assert decode(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


def test_a_message_with_a_field_of_a_wrong_type_is_dropped() -> None:
    """A message with text in place of a number is dropped without an error."""
    fields = msgspec.msgpack.decode(encode(worker_state()))
    assert decode(msgspec.msgpack.encode(fields)) == worker_state()
    assert decode(msgspec.msgpack.encode(fields | {"healthy": "8"})) is None


def test_an_unknown_field_is_ignored() -> None:
    """A message with a field of a later release can be read."""
    fields = msgspec.msgpack.decode(encode(worker_state()))
    assert decode(msgspec.msgpack.encode(fields | {"later": 1})) == worker_state()


@pytest.mark.parametrize(
    ("older", "newer"),
    [((1, 1), (1, 2)), ((1, 9), (2, 1)), ((1, 1), (2, 1)), ((2, 9), (10, 1))],
    ids=["next message", "next start", "same sequence", "many starts"],
)
def test_age(older: tuple[int, int], newer: tuple[int, int]) -> None:
    """Messages are ordered by epoch first, then by sequence."""
    first, second = (node_state({}, epoch, sequence) for epoch, sequence in (older, newer))
    assert first.age < second.age
    assert (first.age, second.age) == (older, newer)


def test_a_device_is_healthy_while_there_is_no_reason() -> None:
    """A device is Healthy without reasons, and Unhealthy with one."""
    reason = Reason(ReasonKind.XID, "79")
    assert DeviceHealth("A").health is Health.HEALTHY
    assert DeviceHealth("A", (reason,)).health is Health.UNHEALTHY


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (Reason(ReasonKind.XID, "79"), "xid 79"),
        (Reason(ReasonKind.GPU_LOST), "gpu-lost"),
        (Reason(ReasonKind.UNWATCHED, "NVML error 3"), "unwatched NVML error 3"),
    ],
)
def test_a_reason_in_words(reason: Reason, text: str) -> None:
    """The text of a reason is its kind, and its detail if it has any."""
    assert str(reason) == text


def test_the_words_that_alerts_use() -> None:
    """Health and reasons have these names, because operators' alerts use them."""
    assert [str(health) for health in Health] == ["Healthy", "Unhealthy"]
    assert {str(kind) for kind in ReasonKind} >= {
        "xid",
        "gpu-lost",
        "unwatched",
        "monitor-silent",
        "not-found",
    }


def test_text_that_is_not_utf_8_is_dropped() -> None:
    """A message with text that is not UTF-8 is dropped without an error."""
    damaged = encode(worker_state("GPU-abc")).replace(b"GPU-abc", b"GPU-\xffbc")

    assert decode(damaged) is None


USAGE = UsageState(
    epoch=1,
    sequence=2,
    interval=5.0,
    devices=(
        DeviceUsage(
            "GPU-1",
            taken=12.5,
            utilization=40,
            memory_used=1 << 34,
            power=70.25,
            processes=(
                GpuProcess(4711, ProcessKind.MPS, 1 << 30, 7),
                GpuProcess(9, ProcessKind.GRAPHICS),
            ),
        ),
        DeviceUsage("MIG-1", taken=12.5),
    ),
)


def test_a_usage_state_survives_the_bus() -> None:
    """A message about usage is the same after its way over the bus."""
    assert decode(encode(USAGE)) == USAGE


def test_each_kind_of_message_begins_with_its_own_topic() -> None:
    """A subscriber to a topic gets all messages of that kind, and none of another."""
    states: list[SenderState] = [node_state({}), worker_state(), USAGE]
    for state, of in product(states, states):
        assert encode(state).startswith(topic(type(of))) == (state is of)


def test_a_topic_may_have_many_fields() -> None:
    """The topic of a message with more than 15 fields is right too."""
    fields = [(f"field_{number}", int, 0) for number in range(20)]
    large: Any = msgspec.defstruct("Large", fields, bases=(SenderState,), frozen=True, tag=True)
    assert encode(large(epoch=1, sequence=1)).startswith(topic(large))
