"""GetPreferredAllocation: properties of the answer to any request."""

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
    """Return the preferred devices, from a new allocator."""
    return Allocator(replicas, policy, Topology.of(())).preferred(available, required, size)


Request = tuple[dict[str, Replica], list[str], list[str], int]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Draw a request as the kubelet makes it: required devices are also available."""
    counts = draw(st.dictionaries(st.sampled_from("ABCDE"), st.integers(1, 5), min_size=1))
    replicas = known(counts | {"F": 2})  # at least one shared GPU, so the policy decides
    available = draw(st.lists(st.sampled_from([*replicas]), unique=True))
    required = draw(st.lists(st.sampled_from(available), unique=True)) if available else []
    return replicas, available, required, draw(st.integers(len(required), 25))


many = settings(deadline=None, max_examples=60)


@many
@given(requests(), st.sampled_from(AllocationPolicy))
def test_the_answer_is_what_was_asked_for(request: Request, policy: AllocationPolicy) -> None:
    """The answer has available IDs only, each once, required first, at most *size*."""
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
    """The answer does not depend on the order of the IDs in the request."""
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
    """GPUs without an available device do not affect the answer."""
    replicas, available, required, size = request
    gpus = {replicas[name].gpu for name in available}
    seen = {name: replica for name, replica in replicas.items() if replica.gpu in gpus | {"F"}}
    assert preferred(policy, seen, available, required, size) == preferred(policy, *request)


@many
@given(requests())
def test_distributed_takes_the_unused_gpu_with_most_free(request: Request) -> None:
    """Each step takes an unused GPU first, then most free replicas, then the lowest UUID."""
    replicas, available, required, _ = request
    free = Counter(replicas[name].gpu for name in {*available} - {*required})
    used = {replicas[name].gpu for name in required}
    for name in preferred(DISTRIBUTED, *request)[len(required) :]:
        gpu = min(+free, key=lambda gpu: (gpu in used, -free[gpu], gpu))
        assert replicas[name].gpu == gpu
        used.add(gpu)
        free[gpu] -= 1


@many
@given(requests())
def test_packed_opens_no_gpu_before_those_in_use_are_empty(request: Request) -> None:
    """Packed takes a device of an unused GPU only when GPUs in use have none left."""
    replicas, available, required, _ = request
    free = Counter(replicas[name].gpu for name in {*available} - {*required})
    used = {replicas[name].gpu for name in required}
    for name in preferred(PACKED, *request)[len(required) :]:
        gpu = replicas[name].gpu
        assert gpu in used or not any(free[other] for other in used)
        assert free[gpu] == min(free[other] for other in +free if (other in used) == (gpu in used))
        used.add(gpu)
        free[gpu] -= 1


@many
@given(requests())
def test_spread_takes_one_device_per_gpu(request: Request) -> None:
    """Beside required devices, each GPU gives one; no GPU is left out while more is asked."""
    replicas, available, required, size = request
    answer = preferred(SPREAD, *request)
    assert doubled(replicas, answer) == doubled(replicas, required)
    gpus = {replicas[name].gpu for name in available}
    assert len(answer) == size or {replicas[name].gpu for name in answer} == gpus
