"""Whatever users a GPU has, the figures add up, and each series is there once."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proto.messages import UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.exporter import usage_metrics
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import KnownUsage, Snapshot
from supervisor.status.usage import device_uses
from supervisor.status.usage_owner import HOST, UNKNOWN, Owner, OwnerKind, Owners
from supervisor.status.usage_report import HolderKind
from tests.unit.builders import inventory, mig_gpu, mig_uuid, node_state, worker_state
from tests.unit.test_usage_rows import GPU, NOW, STALE, snapshot

INSTANCE = mig_uuid(0, 0)
DEVICES = ("A", INSTANCE)
NAMES = st.sampled_from(["p", "q", "pod"])
CONTAINERS = st.builds(
    Owner, st.just(OwnerKind.CONTAINER), NAMES, NAMES, st.sampled_from(["", "p", "q"])
)
OWNERS = st.dictionaries(
    st.tuples(st.sampled_from(DEVICES), st.integers(1, 6)),
    st.one_of(CONTAINERS, st.sampled_from([HOST, UNKNOWN])),
)
HELD = st.lists(
    st.builds(
        Allocation,
        st.sampled_from([GPU, "old"]),
        st.sampled_from(["A", "A::0", "A::1", INSTANCE, "other"]),
        NAMES,
        NAMES,
        st.sampled_from(["p", "q"]),
    ),
    max_size=5,
)
FIGURES = st.one_of(st.none(), st.integers(0, 100))
PROCESSES = st.one_of(
    st.none(),
    st.dictionaries(st.integers(1, 6), st.tuples(FIGURES, FIGURES)).map(
        lambda found: tuple(
            GpuProcess(pid, ProcessKind.COMPUTE, *figures) for pid, figures in found.items()
        )
    ),
)


@st.composite
def nodes(draw: st.DrawFn) -> Snapshot:
    """Return a node with a GPU in MIG mode and one instance, held and used by anybody."""
    devices = tuple(
        DeviceUsage(uuid, 1.0, memory_used=draw(FIGURES), processes=draw(PROCESSES))
        for uuid in DEVICES
    )
    state = UsageState(epoch=1, sequence=1, interval=5.0, devices=devices)
    problem = draw(st.sampled_from(["", "why"]))
    owners = {} if problem else draw(OWNERS)
    gpu = mig_gpu(0, "1g.10gb", uuid="A")
    replicas = draw(st.dictionaries(st.sampled_from(DEVICES), st.integers(1, 3)))
    return dataclasses.replace(
        snapshot(),
        node=replace(node_state({}), inventory=inventory(gpu)),
        workers={GPU: (worker_state(GPU, replicas=replicas), NOW)},
        allocations=draw(st.one_of(st.none(), HELD.map(tuple))),
        foreign=tuple(draw(HELD)),
        usage=KnownUsage(state, NOW, Owners(owners, problem)),
    )


@given(nodes(), st.booleans())
def test_each_series_is_there_once(known: Snapshot, named: bool) -> None:  # noqa: FBT001 - drawn
    """Two series with the same labels would make Prometheus refuse the whole scrape."""
    found = [(s.name, s.labels) for s in usage_metrics.samples(known, NOW, STALE, named=named)]
    assert len(found) == len(set(found))


@given(nodes())
def test_no_memory_is_lost_or_counted_twice(known: Snapshot) -> None:
    """The memory of all holders together is that of all processes, if these can be told apart."""
    assert known.usage
    uses = device_uses(known, NOW, STALE)
    for device in known.usage.state.devices:
        processes = () if known.usage.owners.problem else device.processes or ()
        holders = uses[device.uuid].holders or ()
        memory = sum(holder.memory_used_bytes or 0 for holder in holders)
        assert memory == sum(process.memory or 0 for process in processes)
        assert sum(holder.processes or 0 for holder in holders) == len(processes)


@given(nodes())
def test_nobody_is_flagged_without_need(known: Snapshot) -> None:
    """Nobody is flagged while the kubelet does not answer, nor whoever holds the device."""
    held = (*(known.allocations or ()), *known.foreign)
    for uuid, use in device_uses(known, NOW, STALE).items():
        holders = {(h.namespace, h.pod, h.container) for h in held if h.uuid in {uuid, "A"}}
        for user in use.holders or ():
            if user.kind is HolderKind.UNALLOCATED:
                assert known.allocations is not None
                assert (user.namespace, user.pod, user.container) not in holders
