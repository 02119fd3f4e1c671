"""The warning that a container cannot use two resources together."""

import pytest

from proto.mps import MpsShare
from proto.worker import DeviceListStrategy, PlannedDevice, ResourcePlan
from supervisor.two_resources import alone, clashing

TWO = ("nvidia.com/mig-1g.10gb", "nvidia.com/gpu")


@pytest.mark.parametrize(
    ("names", "strategies", "clash"),
    [
        (TWO, ["envvar"], True),
        (TWO[:1], ["envvar"], False),
        ((), ["envvar"], False),
        (TWO, ["envvar", "volume-mounts"], True),
        (TWO, ["volume-mounts"], False),
        (TWO, ["envvar", "cdi-cri"], False),
        (TWO, ["cdi-annotations"], False),
    ],
)
def test_which_strategies_combine(
    names: tuple[str, ...], strategies: list[str], *, clash: bool
) -> None:
    """Two resources clash where only the variable names the devices of a container."""
    found = clashing(names, map(DeviceListStrategy, strategies))
    assert found == (tuple(sorted(names)) if clash else ())


def plan(name: str, *, mps: bool) -> ResourcePlan:
    """Return the plan of a resource with a device of MPS and one without, or with none of MPS."""
    shared = PlannedDevice("A", "A", 2, mps=MpsShare() if mps else None)
    return ResourcePlan(name, (shared, PlannedDevice("B", "B", 1)))


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ({}, ()),
        ({"a": True}, ()),
        ({"b": True, "a": False}, ("b",)),
        ({"b": True, "a": True, "c": False}, ("a", "b")),
        ({"b": False, "a": False}, ()),
    ],
    ids=["no resource", "one alone", "one beside another", "two", "none of MPS"],
)
def test_which_resources_of_mps_stand_alone(
    shared: dict[str, bool], expected: tuple[str, ...]
) -> None:
    """A container can use a resource of MPS beside no other resource, of MPS or not."""
    assert alone([plan(name, mps=mps) for name, mps in shared.items()]) == expected
