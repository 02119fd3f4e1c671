"""What holds for each request, whichever devices a container should get."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from proto.worker import AllocationPolicy
from tests.unit.builders import known
from workers.allocation import Allocator, doubled
from workers.devices import Replica
from workers.topology import Topology

DISTRIBUTED, PACKED, SPREAD = AllocationPolicy


def preferred(
    policy: AllocationPolicy,
    replicas: dict[str, Replica],
    available: list[str],
    required: list[str],
    size: int,
) -> list[str]:
    """Ask an allocator that was never asked before."""
    return Allocator(replicas, policy, Topology.of(())).preferred(available, required, size)


Request = tuple[dict[str, Replica], list[str], list[str], int]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw a request as a kubelet makes it: what is required is available."""
    counts = draw(st.dictionaries(st.sampled_from("ABCDE"), st.integers(1, 5), min_size=1))
    replicas = known(counts | {"F": 2})  # never all of them whole GPUs
    available = draw(st.lists(st.sampled_from([*replicas]), unique=True))
    required = draw(st.lists(st.sampled_from(available), unique=True)) if available else []
    return replicas, available, required, draw(st.integers(len(required), 25))


many = settings(deadline=None, max_examples=100)


@many
@given(requests(), st.sampled_from(AllocationPolicy))
def test_the_answer_is_what_was_asked_for(request: Request, policy: AllocationPolicy) -> None:
    """The answer is of the available ids, each once, all that are required first, and no more."""
    _, available, required, size = request
    answer = preferred(policy, *request)
    assert len(answer) == min(size, len(available)) or policy is SPREAD
    assert len(answer) <= size
    assert len({*answer}) == len(answer)
    assert {*answer} <= {*available}
    assert {*answer[: len(required)]} == {*required}


@many
@given(requests(), st.sampled_from(AllocationPolicy), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_order(
    request: Request, policy: AllocationPolicy, shuffler: random.Random
) -> None:
    """The same devices in another order get the same answer."""
    replicas, available, required, size = request
    shuffled = (
        dict(shuffler.sample([*replicas.items()], len(replicas))),
        shuffler.sample(available, len(available)),
        shuffler.sample(required, len(required)),
        size,
    )
    assert preferred(policy, *shuffled) == preferred(policy, *request)


@many
@given(requests(), st.sampled_from(AllocationPolicy))
def test_a_gpu_that_is_not_available_changes_nothing(
    request: Request, policy: AllocationPolicy
) -> None:
    """Whether a GPU of which nothing is free is known at all is the same."""
    replicas, available, required, size = request
    gpus = {replicas[name].gpu for name in available}
    seen = {name: replica for name, replica in replicas.items() if replica.gpu in gpus | {"F"}}
    assert preferred(policy, seen, available, required, size) == preferred(policy, *request)


@many
@given(requests())
def test_distributed_takes_the_unused_gpu_with_most_free(request: Request) -> None:
    """Step by step: an unused GPU if there is one, with most free replicas, the lowest UUID."""
    replicas, available, required, _ = request
    free = Counter(replicas[name].gpu for name in {*available} - {*required})
    used = {replicas[name].gpu for name in required}
    for name in preferred(DISTRIBUTED, *request)[len(required) :]:
        gpu = min(+free, key=lambda one: (one in used, -free[one], one))
        assert replicas[name].gpu == gpu
        used.add(gpu)
        free[gpu] -= 1


@many
@given(requests())
def test_packed_opens_no_gpu_before_those_in_use_are_empty(request: Request) -> None:
    """Each device is of a GPU in use, or all of these have given all they had."""
    replicas, available, required, _ = request
    free = Counter(replicas[name].gpu for name in {*available} - {*required})
    used = {replicas[name].gpu for name in required}
    for name in preferred(PACKED, *request)[len(required) :]:
        gpu = replicas[name].gpu
        assert gpu in used or not any(free[one] for one in used)
        assert free[gpu] == min(free[one] for one in +free if (one in used) == (gpu in used))
        used.add(gpu)
        free[gpu] -= 1


@many
@given(requests())
def test_spread_doubles_no_gpu(request: Request) -> None:
    """No GPU gives twice, but what is required; and none is left out that could give."""
    replicas, available, required, size = request
    answer = preferred(SPREAD, *request)
    assert doubled(replicas, answer) == doubled(replicas, required)
    gpus = {replicas[name].gpu for name in available}
    assert len(answer) == size or {replicas[name].gpu for name in answer} == gpus
