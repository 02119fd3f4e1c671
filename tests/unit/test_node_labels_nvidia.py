"""The cases that the tests of NVIDIA's GPU feature discovery v0.20 state, as tables of our own.

Its cases for the owners of a NodeFeature object belong to the process that writes it.
"""

from collections.abc import Sequence

import pytest

from proto.advertising import MigStrategy
from proto.facts import GpuFacts
from proto.messages import Gpu
from supervisor.labels.legal import value
from supervisor.plan import Rules
from tests.unit.labelled import (
    by_mps,
    in_mig_mode,
    labels_of,
    of_resources,
    part,
    rules,
    twice,
    whole,
)

AMPERE = {"gpu.compute.major": "8", "gpu.compute.minor": "0", "gpu.family": "ampere"}


def counted(
    count: int,
    replicas: int,
    strategy: str = "none",
    *,
    memory: int | None = 300,
    product: str = "MOCKMODEL",
) -> dict[str, str]:
    """Return the labels of a resource."""
    found = {
        "product": product,
        "count": str(count),
        "replicas": str(replicas),
        "sharing-strategy": strategy,
    }
    found |= {} if memory is None else {"memory": str(memory)}
    return {f"gpu.{name}": text for name, text in found.items()}


def attributes(gi: int, ci: int, numbers: Sequence[int] = (0,) * 6) -> dict[str, str]:
    """Return the labels about the attributes of MIG instances."""
    engines = ("copy", "decoder", "encoder", "jpeg", "ofa")
    found = {"multiprocessors": numbers[0], "slices.gi": gi, "slices.ci": ci}
    found |= {f"engines.{name}": n for name, n in zip(engines, numbers[1:], strict=True)}
    return {f"gpu.{name}": str(number) for name, number in found.items()}


SHARED = rules(shared=twice("nvidia.com/gpu"))
TWICE = counted(1, 2, "time-slicing", product="MOCKMODEL-SHARED")

NONE: dict[str, tuple[Sequence[Gpu], Rules, dict[str, str]]] = {
    "no devices": ((), Rules(), {}),
    "a GPU": ((whole(),), Rules(), AMPERE | counted(1, 1)),
    "a shared GPU": ((whole(),), SHARED, AMPERE | TWICE),
    "two shared GPUs": ((whole(0), whole(1)), SHARED, AMPERE | TWICE | {"gpu.count": "2"}),
    "a GPU in MIG mode is not shared": ((in_mig_mode(0),), SHARED, counted(1, 0)),
    "nor are two": ((in_mig_mode(0), in_mig_mode(1)), SHARED, counted(2, 0)),
    "a GPU in MIG mode beside a shared one": (
        (in_mig_mode(0), whole(1)),
        SHARED,
        AMPERE | TWICE | {"gpu.count": "2"},
    ),
}

SINGLE = {"mig.strategy": "single"}
INVALID = counted(0, 0, "", memory=0, product="MOCKMODEL-MIG-INVALID") | SINGLE
ENGINES = (12, 13, 14, 15, 16, 17)
A_100 = part(0, 0, (1, 2), 100)
MIG_100 = counted(1, 1, memory=100, product="MOCKMODEL-MIG-1g.100gb") | SINGLE

OF_SINGLE: dict[str, tuple[Sequence[Gpu], dict[str, str]]] = {
    "no devices": ((), {}),
    "a GPU": ((whole(),), AMPERE | counted(1, 1) | SINGLE),
    "two GPUs": ((whole(0), whole(1)), AMPERE | counted(2, 1) | SINGLE),
    "an instance": ((in_mig_mode(0, A_100),), MIG_100 | attributes(1, 2)),
    "an instance each": (
        [in_mig_mode(place, part(place, 0, (1, 2), 100, ENGINES)) for place in range(2)],
        MIG_100 | attributes(1, 2, ENGINES) | {"gpu.count": "2"},
    ),
    "no instance": ((in_mig_mode(0),), INVALID),
    "two profiles": ((in_mig_mode(0, A_100, part(0, 1, (3, 4), 100)),), INVALID),
    "a GPU in MIG mode, and one not": ((in_mig_mode(0, A_100), whole(1)), AMPERE | INVALID),
    "and one without instances": (
        (in_mig_mode(0, A_100), whole(1), in_mig_mode(2)),
        AMPERE | INVALID,
    ),
}


@pytest.mark.parametrize(("gpus", "by", "expected"), NONE.values(), ids=NONE)
def test_mig_strategy_none(gpus: Sequence[Gpu], by: Rules, expected: dict[str, str]) -> None:
    """With MIG strategy none, GPUs are labelled whole, and those in MIG mode without sharing."""
    assert of_resources(labels_of(gpus, by)) == expected


@pytest.mark.parametrize(("gpus", "expected"), OF_SINGLE.values(), ids=OF_SINGLE)
def test_mig_strategy_single(gpus: Sequence[Gpu], expected: dict[str, str]) -> None:
    """With MIG strategy single, instances are labelled like GPUs, or the node as invalid."""
    assert of_resources(labels_of(gpus, rules(MigStrategy.SINGLE))) == expected


RENAMED = rules(shared=twice("nvidia.com/gpu", rename="nvidia.com/gpu.shared"))
OF_GPU: dict[str, tuple[Sequence[Gpu], Rules, dict[str, str]]] = {
    "none": ((), SHARED, {}),
    "not shared": ((whole(),), Rules(), counted(1, 1)),
    "another resource is shared": (
        (whole(),),
        rules(shared=twice("nvidia.com/not-gpu")),
        counted(1, 1),
    ),
    "shared": ((whole(),), SHARED, TWICE),
    "shared and renamed": ((whole(),), RENAMED, counted(1, 2, "time-slicing")),
    "by MPS": ((whole(),), by_mps(), counted(1, 2, "mps", product="MOCKMODEL-SHARED")),
    "by MPS and renamed": ((whole(),), by_mps(rename="gpu.shared"), counted(1, 2, "mps")),
    "without memory": ((whole(memory_mib=None),), Rules(), counted(1, 1, memory=None)),
}


@pytest.mark.parametrize(("gpus", "by", "expected"), OF_GPU.values(), ids=OF_GPU)
def test_a_gpu(gpus: Sequence[Gpu], by: Rules, expected: dict[str, str]) -> None:
    """A shared GPU has the number of its replicas, and a suffix unless the resource is renamed."""
    family = AMPERE if gpus else {}
    assert of_resources(labels_of(gpus, by)) == family | expected


MIG_300 = "MOCKMODEL-MIG-1g.300gb"
KEY = "mig-1g.300gb"
ALONE = in_mig_mode(0, part(0, 0, (1, 2), 300))
LIKE_GPUS = counted(1, 1, product=MIG_300) | attributes(1, 2) | SINGLE
BY_PROFILE = {
    key.replace("gpu", KEY): text
    for key, text in (counted(1, 2, "time-slicing", product=MIG_300) | attributes(1, 2)).items()
}
OF_MIG: dict[str, tuple[Sequence[Gpu], Rules, dict[str, str]]] = {
    "none": ((), rules(MigStrategy.MIXED), {}),
    "not shared": ((ALONE,), rules(MigStrategy.SINGLE), LIKE_GPUS),
    "shared": (
        (ALONE,),
        rules(MigStrategy.SINGLE, twice("nvidia.com/gpu")),
        LIKE_GPUS | counted(1, 2, "time-slicing", product=f"{MIG_300}-SHARED"),
    ),
    "shared and renamed": (
        (ALONE,),
        rules(MigStrategy.SINGLE, twice("nvidia.com/gpu", rename="nvidia.com/gpu.shared")),
        LIKE_GPUS | counted(1, 2, "time-slicing", product=MIG_300),
    ),
    "shared by profile": (
        (ALONE,),
        rules(MigStrategy.MIXED, twice("nvidia.com/gpu", f"nvidia.com/{KEY}")),
        BY_PROFILE | {f"{KEY}.product": f"{MIG_300}-SHARED"},
    ),
    "shared by profile and renamed": (
        (ALONE,),
        rules(MigStrategy.MIXED, twice(f"nvidia.com/{KEY}", rename="nvidia.com/small.shared")),
        BY_PROFILE,
    ),
}


@pytest.mark.parametrize(("gpus", "by", "expected"), OF_MIG.values(), ids=OF_MIG)
def test_mig_instances(gpus: Sequence[Gpu], by: Rules, expected: dict[str, str]) -> None:
    """MIG instances are labelled under gpu, or under their profile beside their GPUs."""
    mixed = gpus and by.mig is MigStrategy.MIXED
    above = counted(1, 0) | {"mig.strategy": "mixed"} if mixed else {}
    assert of_resources(labels_of(gpus, by)) == above | expected


NAMES = {
    "NVIDIA H100 80GB HBM3": "NVIDIA-H100-80GB-HBM3",
    "TITAN X (Pascal)": "TITAN-X-Pascal",
    "Tesla T4": "Tesla-T4",
    "NVIDIA  RTX   A6000": "NVIDIA-RTX-A6000",
    " Quadro P400 ": "Quadro-P400",
    "GRID T4-16Q/A": "GRID-T4-16QA",
    "A100_40.GB": "A100_40.GB",
    "NVIDIA\u00ae A30": "NVIDIA-A30",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_a_name(name: str, expected: str) -> None:
    """A name loses what no label may contain, and its spaces become hyphens."""
    assert value(name) == expected


CAPABLE, INCAPABLE = GpuFacts(mig_capable=True), GpuFacts(mig_capable=False)
OF_MIG_MODE: dict[str, tuple[Sequence[Gpu], str | None]] = {
    "no devices": ((), None),
    "one without": ((whole(facts=INCAPABLE),), "false"),
    "two without": ((whole(0, facts=INCAPABLE), whole(1, facts=INCAPABLE)), "false"),
    "one with": ((in_mig_mode(0, facts=CAPABLE),), "true"),
    "one of two": ((whole(0, facts=INCAPABLE), in_mig_mode(1, facts=CAPABLE)), "true"),
}


@pytest.mark.parametrize(("gpus", "expected"), OF_MIG_MODE.values(), ids=OF_MIG_MODE)
def test_mig_capable(gpus: Sequence[Gpu], expected: str | None) -> None:
    """A node is MIG-capable if any of its GPUs is."""
    assert labels_of(gpus).get("mig.capable") == expected


OF_MPS: dict[str, tuple[Gpu, Rules, str]] = {
    "no configuration": (whole(), Rules(), "false"),
    "nothing is shared": (whole(), rules(), "false"),
    "time-slicing": (whole(), SHARED, "false"),
    "MPS with one replica": (whole(), by_mps(1), "false"),
    "MPS": (whole(), by_mps(), "true"),
    "MPS on a GPU in MIG mode": (in_mig_mode(0), by_mps(), "false"),
}


@pytest.mark.parametrize(("gpu", "by", "expected"), OF_MPS.values(), ids=OF_MPS)
def test_mps_capable(gpu: Gpu, by: Rules, expected: str) -> None:
    """A node is MPS-capable if a GPU that is not in MIG mode is shared by MPS."""
    assert labels_of((gpu,), by)["mps.capable"] == expected


COMPUTE, GRAPHICS, OTHER = 0x030200, 0x030000, 0x038000
MODES: dict[str, tuple[tuple[int | None, ...], str | None]] = {
    "compute": ((COMPUTE, COMPUTE), "compute"),
    "graphics": ((GRAPHICS, GRAPHICS), "graphics"),
    "both": ((COMPUTE, GRAPHICS), "unknown"),
    "another class": ((OTHER,), "unknown"),
    "not known": ((None,), "unknown"),
    "no devices": ((), None),
}


@pytest.mark.parametrize(("classes", "expected"), MODES.values(), ids=MODES)
def test_mode(classes: tuple[int | None, ...], expected: str | None) -> None:
    """The mode is that of the GPUs' common PCI class."""
    gpus = [whole(n, facts=GpuFacts(pci_class=number)) for n, number in enumerate(classes)]
    assert labels_of(gpus).get("gpu.mode") == expected
