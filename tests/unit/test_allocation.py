"""GetPreferredAllocation: which devices each policy prefers."""

import pytest

from proto.messages import Link, LinkLevel
from proto.worker import AllocationPolicy
from tests.unit.builders import known
from workers.allocation import CACHED, Allocator, doubled
from workers.devices import Replica
from workers.topology import Topology

DISTRIBUTED, PACKED, SPREAD = AllocationPolicy

SHARED = known({"A": 3, "B": 3})
ALL = [*SHARED]
UNEQUAL = known({"A": 5, "B": 2, "C": 2})
NOWHERE = Topology.of(())
INSTANCES = {
    name: Replica(name, name, gpu, 0, None)
    for name, gpu in (("MIG-1", "B"), ("MIG-2", "B"), ("MIG-3", "A"), ("MIG-4", "A"))
}


def preferred(
    policy: AllocationPolicy,
    replicas: dict[str, Replica],
    available: list[str],
    required: list[str],
    size: int,
) -> list[str]:
    """Return the preferred devices, from a new allocator."""
    return Allocator(replicas, policy, NOWHERE).preferred(available, required, size)


@pytest.mark.parametrize("policy", AllocationPolicy)
@pytest.mark.parametrize(
    ("available", "required", "size", "expected"),
    [
        (ALL, [], 1, ["A::0"]),
        (ALL, ["A::0", "A::1"], 1, ["A::0"]),
        (ALL, ["B::2", "A::1", "A::0"], 3, ["A::0", "A::1", "B::2"]),
        (ALL, ["A::0"], 0, []),
        (ALL, [], -1, []),
        (["A::1"], [], 2, ["A::1"]),
        ([], [], 1, []),
        (["A::0", "gone"], [], 2, ["A::0"]),
        (["A::0"], ["B::0", "gone"], 2, ["A::0"]),
        (["A::0", "A::0"], ["A::0", "A::0"], 2, ["A::0"]),
    ],
    ids=[
        "a tie goes to the lower UUID",
        "more required than asked",
        "required in order",
        "none",
        "less than none",
        "fewer available",
        "nothing available",
        "unknown id",
        "required but not available",
        "named twice",
    ],
)
def test_whatever_the_policy(
    policy: AllocationPolicy, available: list[str], required: list[str], size: int, expected: object
) -> None:
    """With any policy, required devices come first, and unavailable devices are left out."""
    assert preferred(policy, SHARED, available, required, size) == expected


@pytest.mark.parametrize(
    ("available", "required", "size", "expected"),
    [
        ("A::0 A::1 A::2 B::0 B::1 B::2", "", 2, "A::0 B::0"),
        ("A::0 A::1 A::2 B::0 B::1 B::2", "", 3, "A::0 B::0 A::1"),
        ("A::0 A::1 A::2 B::0 B::1 B::2", "", 6, "A::0 B::0 A::1 B::1 A::2 B::2"),
        ("A::0 A::1 A::2 B::0 B::1 B::2", "", 9, "A::0 B::0 A::1 B::1 A::2 B::2"),
        ("A::2 B::1 B::2", "", 1, "B::1"),
        ("A::2 B::1 B::2", "", 2, "B::1 A::2"),
        ("A::0 A::1 A::2 B::2", "", 2, "A::0 B::2"),
        ("A::0 A::1 A::2 B::2", "A::1", 2, "A::1 B::2"),
        ("A::0 A::1 A::2 A::3 A::4 B::0 B::1", "", 5, "A::0 B::0 A::1 A::2 A::3"),
        ("A::0 A::1 A::2 B::0 B::1 B::2", "A::0 A::1", 4, "A::0 A::1 B::0 B::1"),
    ],
    ids=[
        "one of each GPU",
        "round again",
        "all",
        "more than there are",
        "most free first",
        "then the other",
        "never two of one GPU while the other has given none",
        "required counts as given",
        "of used ones, always that with most free",
        "the unused one, then that with most free",
    ],
)
def test_distributed(available: str, required: str, size: int, expected: str) -> None:
    """Distributed takes an unused GPU with most free replicas first, then a used GPU."""
    replicas = known({"A": 5, "B": 3})
    answer = preferred(DISTRIBUTED, replicas, available.split(), required.split(), size)
    assert answer == expected.split()


@pytest.mark.parametrize(
    ("available", "required", "size", "expected"),
    [
        ("A::0 A::1 A::2 B::0 B::1", "", 1, "B::0"),
        ("A::0 A::1 A::2 B::0 B::1", "", 4, "B::0 B::1 A::0 A::1"),
        ("A::0 A::1 B::0 B::1", "", 3, "A::0 A::1 B::0"),
        ("A::0 A::1 A::2 B::0 B::1", "A::2", 3, "A::2 A::0 A::1"),
        ("A::0 A::1 A::2 B::0 B::1 C::0", "A::0 B::0", 5, "A::0 B::0 B::1 A::1 A::2"),
        ("A::0 B::0 B::1 C::0", "A::0", 2, "A::0 C::0"),
    ],
    ids=[
        "the fullest GPU",
        "then the next",
        "a tie goes to the lower UUID",
        "the GPU of the required one",
        "the fullest of those in use",
        "those in use are empty",
    ],
)
def test_packed(available: str, required: str, size: int, expected: str) -> None:
    """Packed fills GPUs in use first, then the GPU with fewest free replicas."""
    assert preferred(PACKED, UNEQUAL, available.split(), required.split(), size) == expected.split()


@pytest.mark.parametrize(
    ("available", "required", "size", "expected"),
    [
        ("A::0 A::1 B::0 B::1 C::0", "", 2, "A::0 B::0"),
        ("A::0 A::1 B::0 B::1 C::0", "", 5, "A::0 B::0 C::0"),
        ("A::0 A::1 B::0 C::0", "B::0", 2, "B::0 A::0"),
        ("A::0 A::1 A::2 C::0", "A::1", 3, "A::1 C::0"),
        ("A::0 A::1 A::2 C::0", "A::1 A::2", 3, "A::1 A::2 C::0"),
    ],
    ids=[
        "most free first",
        "fewer than asked",
        "required first",
        "required counts as given",
        "two required devices of one GPU are kept",
    ],
)
def test_spread(available: str, required: str, size: int, expected: str) -> None:
    """Spread takes one device per GPU, even when the answer is then too short."""
    assert preferred(SPREAD, UNEQUAL, available.split(), required.split(), size) == expected.split()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DISTRIBUTED, ["MIG-3", "MIG-1", "MIG-4"]),
        (PACKED, ["MIG-3", "MIG-4", "MIG-1"]),
        (SPREAD, ["MIG-3", "MIG-1"]),
    ],
)
def test_mig_instances_count_for_their_gpu(policy: AllocationPolicy, expected: list[str]) -> None:
    """Policies count MIG instances by GPU: two instances of one GPU share that GPU."""
    assert preferred(policy, INSTANCES, [*INSTANCES], [], 3) == expected


def test_replicas_come_by_number() -> None:
    """Replicas are sorted by number: the tenth comes after the second."""
    replicas = known({"A": 11})
    assert preferred(PACKED, replicas, ["A::10", "A::2"], [], 2) == ["A::2", "A::10"]


LINKS = (Link("B", "C", LinkLevel.PIX, 0),)


@pytest.mark.parametrize("policy", AllocationPolicy)
def test_whole_gpus_are_chosen_by_topology(policy: AllocationPolicy) -> None:
    """With any policy, GPUs that are not shared are chosen by topology."""
    whole = Allocator(known({"A": 1, "B": 1, "C": 1}), policy, Topology.of(LINKS))
    assert whole.preferred(["C", "B", "A", "gone"], [], 2) == ["B", "C"]
    assert whole.preferred(["C", "B", "A"], ["A", "gone"], 2) == ["A", "B"]


def test_shared_gpus_are_chosen_by_policy() -> None:
    """When one GPU of the resource is shared, the policy decides and topology does not."""
    mixed = Allocator(known({"A": 1, "B": 1, "C": 2}), DISTRIBUTED, Topology.of(LINKS))
    assert mixed.preferred(["A", "B"], [], 1) == ["A"]


def test_answers_for_whole_gpus_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is computed once, in any order of IDs; changing an answer does not affect it."""
    asked = []
    choose = Topology.choose

    def counted(*question: object) -> list[str]:
        asked.append(question)
        return choose(*question)  # type: ignore[arg-type]

    monkeypatch.setattr(Topology, "choose", counted)
    whole = Allocator(known({"A": 1, "B": 1, "C": 1}), DISTRIBUTED, Topology.of(LINKS))
    whole.preferred(["A", "B", "C"], ["A", "B"], 2).clear()
    assert whole.preferred(["C", "A", "B"], ["B", "A"], 2) == ["A", "B"]
    assert len(asked) == 1
    for size in range(2 * CACHED):
        whole.preferred(["A"], [], size)
    whole.preferred(["A", "B", "C"], ["A", "B"], 2)
    assert len(asked) == 2 + 2 * CACHED


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], []),
        (["A::0", "B::1"], []),
        (["A::0", "A::2"], ["A"]),
        (["B::0", "A::0", "B::1", "A::1", "A::2"], ["A", "B"]),
        (["A::0", "A::0"], []),
        (["A::0", "gone", "lost"], []),
    ],
)
def test_doubled(ids: list[str], expected: list[str]) -> None:
    """`doubled` returns the GPUs with two or more of the requested devices."""
    assert doubled(SHARED, ids) == expected


def test_instances_of_one_gpu_are_doubled() -> None:
    """Two MIG instances on one GPU count as two devices of that GPU."""
    assert doubled(INSTANCES, ["MIG-1", "MIG-2", "MIG-3"]) == ["B"]
