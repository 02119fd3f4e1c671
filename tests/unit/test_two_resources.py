"""The warning that a container cannot use two resources together."""

import pytest

from proto.worker import DeviceListStrategy
from supervisor.two_resources import clashing

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
