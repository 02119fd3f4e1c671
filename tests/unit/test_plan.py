"""The plan: which devices a node advertises, under which resource names."""

import itertools

import pytest
from msgspec.structs import replace

from proto.advertising import MigStrategy
from proto.facts import NumaNodes
from proto.messages import IMEX_CHANNEL, FailedGpu, Gpu
from proto.problem import Problem, ProblemKind
from proto.worker import PlannedDevice, ResourcePlan
from supervisor.config.file_schema import Pattern
from supervisor.plan import Plan, Rules, plan
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, mig_uuid

GPU = "nvidia.com/gpu"
IMEX = IMEX_CHANNEL.format(0)
SIMPLE = Rules()


def names(rules: Rules, *gpus: Gpu) -> dict[str, list[str]]:
    """Return the UUIDs of the advertised devices by resource."""
    resources = plan(rules, inventory(*gpus)).resources
    return {resource.resource: [d.uuid for d in resource.devices] for resource in resources}


def test_an_unshared_node_advertises_whole_gpus() -> None:
    """By default each GPU is a device of nvidia.com/gpu with its device node and NUMA node."""
    node = inventory(gpu(0, numa_node=0), gpu(1, numa_node=1, minor=7), gpu(2, minor=None))
    first, second, third = (gpu_uuid(place) for place in range(3))
    devices = (
        PlannedDevice(first, first, 1, "0", 0, ("/dev/nvidia0",)),
        PlannedDevice(second, second, 1, "1", 1, ("/dev/nvidia7",)),
        PlannedDevice(third, third, 1, "2", None, ()),
    )
    assert plan(SIMPLE, node) == Plan((ResourcePlan(GPU, devices),))


def test_a_mig_instance_is_a_device_of_its_gpu() -> None:
    """A MIG instance has its GPU's device node and NUMA node, its capabilities and its index."""
    parted = mig_gpu(3, "1g.10gb", "2g.20gb", numa_node=1, minor=5)
    found = plan(Rules(mig=MigStrategy.MIXED), inventory(parted))
    nodes = (
        ("/dev/nvidia5", "/dev/nvidia-caps/nvidia-cap3"),
        (
            "/dev/nvidia5",
            "/dev/nvidia-caps/nvidia-cap5",
        ),
    )
    assert found == Plan(
        (
            ResourcePlan(
                "nvidia.com/mig-1g.10gb",
                (PlannedDevice(mig_uuid(3, 0), gpu_uuid(3), 1, "3:0", 1, nodes[0]),),
            ),
            ResourcePlan(
                "nvidia.com/mig-2g.20gb",
                (PlannedDevice(mig_uuid(3, 1), gpu_uuid(3), 1, "3:1", 1, nodes[1]),),
            ),
        )
    )


def test_an_instance_of_a_gpu_without_minor_number() -> None:
    """A MIG instance on a GPU without minor number has only its capability nodes."""
    (resource,) = plan(
        Rules(mig=MigStrategy.MIXED), inventory(mig_gpu(0, "1g.10gb", minor=None))
    ).resources
    assert resource.devices[0].nodes == ("/dev/nvidia-caps/nvidia-cap3",)


def test_an_instance_of_unknown_profile() -> None:
    """A MIG instance of unknown profile is mig-unknown, or named by a pattern."""
    node = mig_gpu(0, "", "1g.10gb")
    mixed = Rules(mig=MigStrategy.MIXED)
    assert names(mixed, node) == {
        "nvidia.com/mig-1g.10gb": [mig_uuid(0, 1)],
        "nvidia.com/mig-unknown": [mig_uuid(0, 0)],
    }
    named = Rules(mig=MigStrategy.MIXED, profiles=(Pattern("*", "slice"),))
    assert names(named, node) == {"nvidia.com/slice": [mig_uuid(0, 0), mig_uuid(0, 1)]}


@pytest.mark.parametrize("strategy", MigStrategy)
def test_a_node_without_gpus_advertises_nothing(strategy: MigStrategy) -> None:
    """A node without working GPUs has no resource and no problem."""
    node = inventory(failed=(FailedGpu(0, "lost"),))
    assert plan(Rules(mig=strategy), node) == Plan(())


@pytest.mark.parametrize("strategy", MigStrategy)
def test_a_node_without_mig_is_the_same_by_every_strategy(strategy: MigStrategy) -> None:
    """On GPUs not in MIG mode, each MIG strategy gives the same plan."""
    node = inventory(gpu(0), gpu(1))
    assert plan(Rules(mig=strategy), node) == plan(SIMPLE, node)


def test_a_gpu_that_failed_is_not_planned() -> None:
    """A GPU that could not be enumerated is not advertised, and the others are."""
    (resource,) = plan(SIMPLE, inventory(gpu(1), failed=(FailedGpu(0, "lost"),))).resources
    assert [device.uuid for device in resource.devices] == [gpu_uuid(1)]


@pytest.mark.parametrize("name", ["DGX Display", "NVIDIA DGX Display"])
@pytest.mark.parametrize("strategy", MigStrategy)
def test_a_display_adapter_is_not_advertised(name: str, strategy: MigStrategy) -> None:
    """The display adapter of a DGX Station is ignored, also by the MIG strategy single."""
    found = names(Rules(mig=strategy), gpu(0), gpu(1, name=name), gpu(2))
    assert found == {GPU: [gpu_uuid(0), gpu_uuid(2)]}
    alone = Rules(mig=MigStrategy.SINGLE)
    assert plan(alone, inventory(gpu(0, name=name), mig_gpu(1, "1g.10gb"))).problems == ()


def test_a_gpu_with_display_in_its_name_is_advertised() -> None:
    """A GPU is ignored only for the exact name of a display adapter."""
    assert names(SIMPLE, gpu(0, name="DGX Display 2")) == {GPU: [gpu_uuid(0)]}


MODELS = (
    gpu(0, name="NVIDIA A100-SXM4-40GB"),
    gpu(1),
    gpu(2, name="Tesla T4"),
    gpu(3, name="NVIDIA A100-SXM4-80GB"),
)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), {GPU: [0, 1, 2, 3]}),
        ((Pattern("*", "card"),), {"nvidia.com/card": [0, 1, 2, 3]}),
        (
            (Pattern("*A100*", "a100"),),
            {"nvidia.com/a100": [0, 3], GPU: [1, 2]},
        ),
        (
            (Pattern("*A100*80GB", "large"), Pattern("*A100*", "small"), Pattern("*T4", "gpu")),
            {"nvidia.com/large": [3], "nvidia.com/small": [0], GPU: [1, 2]},
        ),
        (
            (Pattern("*A100*", "all"), Pattern("*A100*80GB", "never"), Pattern("*H100*", "all")),
            {"nvidia.com/all": [0, 1, 3], GPU: [2]},
        ),
        ((Pattern("Tesla T4", "nvidia.com/t4"),), {"nvidia.com/t4": [2], GPU: [0, 1, 3]}),
        ((Pattern("A100", "never"),), {GPU: [0, 1, 2, 3]}),
    ],
    ids=["none", "all", "one model", "by size", "one name", "with domain", "no match"],
)
def test_names_by_model(patterns: tuple[Pattern, ...], expected: dict[str, list[int]]) -> None:
    """The first pattern that matches a GPU's model names it; else it is nvidia.com/gpu."""
    assert names(Rules(gpus=patterns), *MODELS) == {
        name: [gpu_uuid(place) for place in places] for name, places in expected.items()
    }


PROFILES = mig_gpu(0, "1g.10gb", "1g.10gb+me", "1c.2g.20gb", "3g.40gb")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((Pattern("*", "slice"),), {"slice": [0, 1, 2, 3]}),
        (
            (Pattern("1g.10gb", "small"),),
            {"small": [0], "mig-1g.10gb.me": [1], "mig-1c.2g.20gb": [2], "mig-3g.40gb": [3]},
        ),
        (
            (Pattern("1g.*", "small"), Pattern("*", "other")),
            {"small": [0, 1], "other": [2, 3]},
        ),
        (
            (Pattern("*+me", "media"), Pattern("1c.*", "compute")),
            {"mig-1g.10gb": [0], "media": [1], "compute": [2], "mig-3g.40gb": [3]},
        ),
    ],
    ids=["all", "exact", "first match", "by kind"],
)
def test_names_by_profile(patterns: tuple[Pattern, ...], expected: dict[str, list[int]]) -> None:
    """The first pattern that matches a MIG profile names it; else its resource has its name."""
    rules = Rules(mig=MigStrategy.MIXED, profiles=patterns)
    assert names(rules, PROFILES) == {
        f"nvidia.com/{name}": [mig_uuid(0, place) for place in places]
        for name, places in expected.items()
    }


def test_patterns_of_gpus_and_of_profiles_are_separate() -> None:
    """Patterns of models name only GPUs, and patterns of profiles name only MIG instances."""
    rules = Rules(
        mig=MigStrategy.MIXED, gpus=(Pattern("*", "whole"),), profiles=(Pattern("*", "slice"),)
    )
    assert names(rules, gpu(0), mig_gpu(1, "1g.10gb")) == {
        "nvidia.com/whole": [gpu_uuid(0)],
        "nvidia.com/slice": [mig_uuid(1, 0)],
    }


def test_a_profile_named_gpu_shares_the_resource_of_whole_gpus() -> None:
    """MIG instances and GPUs with the same name are one resource, in the node's order."""
    rules = Rules(mig=MigStrategy.MIXED, profiles=(Pattern("3g.*", "gpu"),))
    assert names(rules, gpu(0), mig_gpu(1, "3g.40gb", "1g.10gb"), gpu(2)) == {
        GPU: [gpu_uuid(0), mig_uuid(1, 0), gpu_uuid(2)],
        "nvidia.com/mig-1g.10gb": [mig_uuid(1, 1)],
    }


def test_resources_are_sorted_by_name() -> None:
    """Resources are sorted by name in any order of GPUs; devices keep the node's order."""
    rules = Rules(mig=MigStrategy.MIXED, gpus=(Pattern("Tesla*", "t4"),))
    node = (mig_gpu(0, "3g.40gb", "1g.10gb"), gpu(1), gpu(2, name="Tesla T4"), gpu(3))
    for order in itertools.permutations(node):
        found = names(rules, *order)
        assert list(found) == [
            GPU,
            "nvidia.com/mig-1g.10gb",
            "nvidia.com/mig-3g.40gb",
            "nvidia.com/t4",
        ]
        assert found[GPU] == [found_gpu.uuid for found_gpu in order if found_gpu.index in {1, 3}]


TEXT = f"cannot find {IMEX}; create the IMEX channel, or set imex.required to false"
MISSING = Plan((), (Problem(ProblemKind.IMEX_MISSING, TEXT),))


@pytest.mark.parametrize(
    ("required", "nodes", "missing"),
    [
        ((), (), False),
        ((), (IMEX,), False),
        ((0,), ("/dev/nvidiactl", IMEX), False),
        ((0,), ("/dev/nvidiactl",), True),
        ((7, 0), (IMEX_CHANNEL.format(7),), True),
    ],
    ids=["not required", "there though not required", "there", "missing", "one missing"],
)
def test_required_imex_channels(
    *, required: tuple[int, ...], nodes: tuple[str, ...], missing: bool
) -> None:
    """Without all required IMEX channels, the node advertises nothing."""
    node = inventory(gpu(0), nodes=nodes)
    expected = MISSING if missing else plan(SIMPLE, inventory(gpu(0)))
    assert plan(Rules(imex_required=required), node) == expected


@pytest.mark.parametrize(
    ("numa", "told"),
    [
        (NumaNodes(), False),
        (NumaNodes(2, 0), False),
        (NumaNodes(16, 0), False),
        (NumaNodes(8, 7), False),
        (NumaNodes(9, 8), True),
        (NumaNodes(34, 32), True),
        (NumaNodes(34, 32, "numa"), True),
        (NumaNodes(34, 32, "driver"), False),
    ],
    ids=["unknown", "plain", "many CPUs", "few", "GH200", "GB200", "said so", "not by GPUs"],
)
def test_numa_nodes_of_gpu_memory(*, numa: NumaNodes, told: bool) -> None:
    """More NUMA nodes than the kubelet accepts are a problem if GPUs make them; all is served."""
    node = replace(inventory(gpu(0)), numa=numa)
    found = plan(SIMPLE, node)
    assert found.resources == plan(SIMPLE, inventory(gpu(0))).resources
    assert [problem.kind for problem in found.problems] == [ProblemKind.NUMA_NODES] * told
    for problem in found.problems:
        assert problem.text.startswith(f"the node has {numa.total} NUMA nodes, {numa.without_cpus}")
        assert problem.text.endswith("NVreg_CoherentGPUMemoryMode=driver")
