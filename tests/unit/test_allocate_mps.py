"""Allocate for replicas that MPS shares: what a container gets, and which requests are refused."""

import pytest

from proto import deviceplugin_pb2 as api
from proto.mps import MpsShare
from proto.reasons import Reason, ReasonKind
from proto.worker import (
    AllocationPolicy,
    DeviceListStrategy,
    Handout,
    PlannedDevice,
    ResourcePlan,
)
from workers import response
from workers.devices import View, replicas
from workers.response import RefusedError

RESOURCE = "nvidia.com/gpu.shared"
ROOT = "/run/nvidia/mps"
PIPE = f"/mps/{RESOURCE}/pipe"
MOUNTS = [
    api.Mount(host_path=f"{ROOT}/A/pipe", container_path=PIPE),
    api.Mount(host_path=f"{ROOT}/shm", container_path="/dev/shm"),
]
ENVVAR, VOLUMES, ANNOTATIONS, CRI = DeviceListStrategy
SINGLE, SEVERAL = MpsShare(10240, 25), MpsShare(10240, 25, single=False)


def answer(
    share: MpsShare | None,
    *ids: str,
    handout: Handout = Handout(mps_root=ROOT),  # noqa: B008 - it is frozen
    unhealthy: dict[str, tuple[Reason, ...]] | None = None,
) -> api.ContainerAllocateResponse:
    """Return the answer for a container that gets these IDs; A and B have 4 replicas, C none."""
    planned = (
        PlannedDevice("A", "A", 4, "0", mps=share),
        PlannedDevice("B", "B", 4, "1", mps=share),
        PlannedDevice("C", "C", 1, "2"),
    )
    known = replicas(ResourcePlan(RESOURCE, planned))
    return response.allocate(View(RESOURCE, known, unhealthy or {}), handout, ids)


def limits(found: api.ContainerAllocateResponse) -> tuple[str | None, str | None]:
    """Return the client's limits of threads and memory."""
    return (
        found.envs.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
        found.envs.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"),
    )


@pytest.mark.parametrize("strategy", DeviceListStrategy)
def test_each_strategy_makes_the_container_a_client(strategy: DeviceListStrategy) -> None:
    """Whatever names the device, the container gets the daemon's folder, shared memory, no more."""
    handout = Handout((strategy,), mps_root=f"{ROOT}/")
    found = answer(SINGLE, "A::1", handout=handout)
    without = answer(None, "A::1", handout=handout)
    assert {*found.envs.items()} - {*without.envs.items()} == {("CUDA_MPS_PIPE_DIRECTORY", PIPE)}
    assert [m for m in found.mounts if m not in without.mounts] == MOUNTS
    assert found.annotations == without.annotations
    assert found.cdi_devices == without.cdi_devices
    assert not any(mount.read_only for mount in found.mounts)


def test_without_mps_nothing_is_added() -> None:
    """A device that is not shared by MPS has no folder of a daemon, also beside those that are."""
    assert answer(SINGLE, "C") == answer(None, "C")
    assert "CUDA_MPS_PIPE_DIRECTORY" not in answer(SINGLE, "C").envs


def test_the_daemon_limits_a_single_replica() -> None:
    """Where a container may have one replica, the daemon sets the limits, and no variable does."""
    assert limits(answer(SINGLE, "A::0")) == (None, None)


PROPORTIONS = {
    "one": (SEVERAL, 1, ("25", "0=10240M")),
    "three": (SEVERAL, 3, ("75", "0=30720M")),
    "all": (SEVERAL, 4, ("100", "0=40960M")),
    "at most all": (MpsShare(None, 40, single=False), 4, ("100", None)),
    "threads only": (MpsShare(None, 10, single=False), 2, ("20", None)),
    "memory only": (MpsShare(1500, None, single=False), 2, (None, "0=3000M")),
    "no limits": (MpsShare(single=False), 2, (None, None)),
}


@pytest.mark.parametrize(("share", "count", "expected"), PROPORTIONS.values(), ids=PROPORTIONS)
def test_limits_in_proportion(
    share: MpsShare, count: int, expected: tuple[str | None, str | None]
) -> None:
    """Where it may have several, the container's variables have as much as its replicas come to."""
    found = answer(share, *(f"A::{number}" for number in range(count)))
    assert limits(found) == expected
    assert found.envs["NVIDIA_VISIBLE_DEVICES"] == "A"
    assert list(found.mounts) == MOUNTS


OF_TWO = (
    f"cannot allocate 2 of {RESOURCE}: they are not all of one device, and a container can use "
    "MPS on one device only; request fewer"
)
TOO_MANY = (
    f"cannot allocate 2 of {RESOURCE}: it is shared by MPS, and failRequestsGreaterThanOne allows "
    "1 per container; request 1"
)
REFUSED = {
    "two replicas": (SINGLE, ("A::0", "A::1"), TOO_MANY),
    "of two devices, single": (SINGLE, ("A::0", "B::1"), TOO_MANY),
    "of two devices": (SEVERAL, ("A::0", "B::1"), OF_TWO),
    "one of MPS and one without": (SEVERAL, ("C", "B::1"), OF_TWO),
}


@pytest.mark.parametrize(("share", "ids", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(share: MpsShare, ids: tuple[str, ...], problem: str) -> None:
    """A container gets replicas of MPS from one device only, and one where only one is allowed."""
    with pytest.raises(RefusedError) as refused:
        answer(share, *ids)
    assert str(refused.value) == problem


def test_time_slicings_rule_is_not_that_of_mps() -> None:
    """The rule of sharing.timeSlicing for several replicas does not count for MPS."""
    handout = Handout(mps_root=ROOT, single_replica=True)
    assert limits(answer(SEVERAL, "A::0", "A::1", handout=handout)) == ("50", "0=20480M")
    with pytest.raises(RefusedError, match="failRequestsGreaterThanOne"):
        answer(None, "A::0", "A::1", handout=handout)


def test_spread_allows_several_replicas_of_one_device() -> None:
    """With policy spread a container may still have several replicas of MPS, from one device."""
    handout = Handout(mps_root=ROOT, policy=AllocationPolicy.SPREAD)
    assert limits(answer(SEVERAL, "A::0", "A::1", handout=handout)) == ("50", "0=20480M")


def test_an_unhealthy_device_is_refused() -> None:
    """A device whose daemon is not ready is refused, in the daemon's words."""
    why: dict[str, tuple[Reason, ...]] = {"A": (Reason(ReasonKind.MPS, "fault: of a client"),)}
    with pytest.raises(RefusedError, match=r"it is Unhealthy \(mps fault: of a client\)"):
        answer(SINGLE, "A::0", unhealthy=why)
    assert answer(SINGLE, "B::0", unhealthy=why).envs["NVIDIA_VISIBLE_DEVICES"] == "B"
