"""Which devices a container should get."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.builders import known
from workers.allocation import preferred
from workers.devices import Replica

SHARED = known({"A": 3, "B": 3})
WHOLE = known({"A": 1, "B": 1, "C": 1})
ALL = [*SHARED]


@pytest.mark.parametrize(
    ("available", "required", "size", "expected"),
    [
        (ALL, [], 1, ["A::0"]),
        (ALL, [], 2, ["A::0", "B::0"]),
        (ALL, [], 3, ["A::0", "B::0", "A::1"]),
        (ALL, [], 6, ["A::0", "B::0", "A::1", "B::1", "A::2", "B::2"]),
        (["A::2", "B::1", "B::2"], [], 1, ["B::1"]),
        (["A::2", "B::1", "B::2"], [], 2, ["B::1", "A::2"]),
        (["A::0", "A::1", "A::2", "B::2"], [], 2, ["A::0", "B::2"]),
        (ALL, ["A::1"], 2, ["A::1", "B::0"]),
        (ALL, ["A::1", "A::0"], 4, ["A::0", "A::1", "B::0", "B::1"]),
        (ALL, ["B::2", "A::1", "A::0"], 3, ["A::0", "A::1", "B::2"]),
        (ALL, ["A::0", "A::1"], 1, ["A::0"]),
        (ALL, ["A::0"], 0, []),
        (ALL, ["A::0", "A::1"], -1, []),
        (ALL, [], 9, ["A::0", "B::0", "A::1", "B::1", "A::2", "B::2"]),
        (["A::1"], [], 2, ["A::1"]),
        ([], [], 1, []),
        (["A::0", "gone"], [], 2, ["A::0"]),
        (["A::0"], ["B::0"], 2, ["A::0"]),
    ],
    ids=[
        "a tie goes to the lower UUID",
        "one of each GPU",
        "round again",
        "all",
        "most left first",
        "then the other",
        "never two of one GPU while the other has given none",
        "required first, then another GPU",
        "required counts as given",
        "required in order",
        "more required than asked",
        "none",
        "less than none",
        "more than there are",
        "fewer available",
        "nothing available",
        "unknown id",
        "required but not available",
    ],
)
def test_preferred(
    available: list[str], required: list[str], size: int, expected: list[str]
) -> None:
    """Replicas are spread over the GPUs, the required ones first, as many as there are."""
    assert preferred(SHARED, available, required, size) == expected


def test_whole_gpus_come_in_their_order() -> None:
    """GPUs that are not shared are preferred by UUID."""
    assert preferred(WHOLE, ["C", "B", "A"], [], 2) == ["A", "B"]


def test_instances_are_spread_over_their_gpus() -> None:
    """MIG instances count for the GPU that they are on, not each for itself."""
    instances = {
        name: Replica(name, name, gpu, 0, None)
        for name, gpu in (("MIG-1", "A"), ("MIG-2", "A"), ("MIG-3", "B"))
    }
    assert preferred(instances, instances, [], 2) == ["MIG-1", "MIG-3"]


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Replica], list[str], list[str], int]:
    """Draw a request as a kubelet makes it: what is required is available."""
    counts = draw(st.dictionaries(st.sampled_from("ABCDE"), st.integers(1, 5), min_size=1))
    replicas = known(counts)
    available = draw(st.lists(st.sampled_from([*replicas]), unique=True))
    required = draw(st.lists(st.sampled_from(available), unique=True)) if available else []
    return replicas, available, required, draw(st.integers(len(required), 25))


Request = tuple[dict[str, Replica], list[str], list[str], int]
many = settings(deadline=None, max_examples=100)


@many
@given(requests())
def test_the_answer_is_what_was_asked_for(request: Request) -> None:
    """The answer has the size asked for where it can, each id once, and all that are required."""
    replicas, available, required, size = request
    answer = preferred(replicas, available, required, size)
    assert len(answer) == min(size, len(available))
    assert len(set(answer)) == len(answer)
    assert set(answer) <= set(available)
    assert set(answer[: len(required)]) == set(required)


@many
@given(requests())
def test_no_gpu_gives_twice_while_another_has_given_less(request: Request) -> None:
    """Each device that is not required is of a GPU that has given least of those with any left."""
    replicas, available, required, size = request
    answer = preferred(replicas, available, required, size)
    given = Counter(replicas[name].gpu for name in required)
    left = set(available) - set(required)
    for name in answer[len(required) :]:
        gpu = replicas[name].gpu
        assert given[gpu] == min(given[replicas[other].gpu] for other in left)
        given[gpu] += 1
        left.remove(name)


@many
@given(requests(), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_order(request: Request, shuffler: random.Random) -> None:
    """The same devices in another order get the same answer."""
    replicas, available, required, size = request
    answer = preferred(replicas, available, required, size)
    known_otherwise = dict(shuffler.sample([*replicas.items()], len(replicas)))
    available = shuffler.sample(available, len(available))
    required = shuffler.sample(required, len(required))
    assert preferred(known_otherwise, available, required, size) == answer
