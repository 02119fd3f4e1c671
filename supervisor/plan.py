"""Plan what the node advertises: from rules and inventory to resources and problems."""

from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import msgspec

from proto.advertising import MigStrategy
from proto.facts import NumaNodes
from proto.messages import IMEX_CHANNEL, Gpu, Inventory, MigInstance
from proto.names import index_of, is_display, nodes_of
from proto.problem import Problem, ProblemKind
from proto.texts import few
from proto.worker import PlannedDevice, ResourcePlan
from supervisor.config import naming
from supervisor.config.file_schema import Pattern
from supervisor.config.sharing import Shares
from supervisor.plan_sharing import UnsharedDevice, share

WHOLE_GPU = "gpu"
"""Resource name of whole GPUs, without the domain."""

TEGRA = "tegra"
"""What patterns can name an integrated GPU beside its model, as for NVIDIA's plugin."""

LIST_LIMIT = 4 << 20
"""Bytes of the longest device list that the kubelet accepts."""

NUMA_LIMIT = 8
"""NUMA nodes that the kubelet's topology manager accepts, if its options say nothing else."""

BY_DRIVER = "driver"
"""With this value of NVreg_CoherentGPUMemoryMode, GPU memory is no system memory."""


class Rules(msgspec.Struct, frozen=True):
    """The part of the configuration that decides which resources are advertised."""

    mig: MigStrategy = MigStrategy.NONE
    gpus: tuple[Pattern, ...] = ()
    """Resource names by GPU model."""
    profiles: tuple[Pattern, ...] = ()
    """Resource names by MIG profile."""
    shares: Shares = msgspec.field(default_factory=dict)
    imex_required: tuple[int, ...] = ()
    """IMEX channels without which nothing is advertised."""


class Plan(msgspec.Struct, frozen=True):
    """What to advertise, and why not everything is advertised as configured."""

    resources: tuple[ResourcePlan, ...]
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()
    """What in the configuration has no effect on this node, without being a problem."""


def plan(rules: Rules, inventory: Inventory) -> Plan:
    """Return what a node with this *inventory* advertises under these *rules*."""
    gpus = [gpu for gpu in inventory.gpus if not is_display(gpu)]
    refused = [gpu for gpu in gpus if _is_refused(rules.mig, gpu)]
    gpus = [gpu for gpu in gpus if gpu not in refused]
    problems = [*_refusals(refused), *_mig_problems(rules.mig, gpus)]
    problems += _imex_problems(rules, inventory)
    problems += _numa_problems(inventory.numa)
    if any(problem.fatal for problem in problems):
        return Plan((), tuple(problems))
    groups = defaultdict(list)
    for gpu in gpus:
        for device in _devices(rules, gpu):
            groups[device.resource].append(device)
    shared: dict[str, list[PlannedDevice]] = defaultdict(list)
    for resource, devices in groups.items():
        mine = rules.shares.get(resource, ())
        problems += share(mine, devices, inventory.driver_version, shared)
    resources = [ResourcePlan(name, tuple(shared[name])) for name in sorted(shared)]
    long = [problem for resource in resources for problem in _too_long(resource)]
    kept = [resource for resource in resources if list_bytes(resource) <= LIST_LIMIT]
    notices = tuple(_absent(rules.shares.keys() - groups.keys()))
    return Plan(tuple(kept), (*problems, *long), notices)


def _absent(names: AbstractSet[str]) -> Iterator[str]:
    """Yield a notice for shared resources that a node of another kind may have."""
    if names:
        yield f"not shared, because this node has no such resource: {few(sorted(names))}"


def _is_refused(strategy: MigStrategy, gpu: Gpu) -> bool:
    """Return whether containers cannot get the MIG instances of *gpu*: one ID of it is known."""
    return strategy is not MigStrategy.NONE and gpu.mig_enabled and bool(gpu.toolkit_id)


def _refusals(gpus: list[Gpu]) -> Iterator[Problem]:
    if gpus:
        text = (
            f"GPU {few([str(gpu.index) for gpu in gpus])}: MIG mode is on, but on this platform "
            "the container toolkit knows no MIG instances; switch MIG mode off, or use the MIG "
            "strategy none"
        )
        yield Problem(ProblemKind.MIG_UNSUPPORTED, text)


def _mig_problems(strategy: MigStrategy, gpus: list[Gpu]) -> Iterator[Problem]:
    empty = [str(gpu.index) for gpu in gpus if gpu.mig_enabled and not gpu.instances]
    if strategy is MigStrategy.MIXED and empty:
        text = f"GPU {few(empty)}: MIG mode is on, but there is no MIG instance; create one"
        yield Problem(ProblemKind.MIG_EMPTY, text)
    if strategy is not MigStrategy.SINGLE:
        return
    layouts = {gpu.index: _layout(gpu) for gpu in gpus}
    profiles = {profile for layout in layouts.values() for profile in layout}
    if any(gpu.mig_enabled for gpu in gpus) and (len(profiles) > 1 or empty):
        shown = few([f"GPU {i}: {few(sorted(s)) or 'none'}" for i, s in layouts.items()], "; ")
        text = (
            f'cannot use MIG strategy "single": it needs one MIG profile on all GPUs, but found '
            f"{shown}; create the same MIG instances on every GPU, or set the MIG strategy to mixed"
        )
        yield Problem(ProblemKind.MIG_NOT_UNIFORM, text)


def _layout(gpu: Gpu) -> set[str]:
    return {i.profile for i in gpu.instances} if gpu.mig_enabled else {"whole GPU"}


def _imex_problems(rules: Rules, inventory: Inventory) -> Iterator[Problem]:
    nodes = map(IMEX_CHANNEL.format, rules.imex_required)
    if missing := [node for node in nodes if node not in inventory.nodes]:
        text = f"cannot find {few(missing)}; create the IMEX channel, or set imex.required to false"
        yield Problem(ProblemKind.IMEX_MISSING, text)


def _numa_problems(numa: NumaNodes) -> Iterator[Problem]:
    """Yield a problem if GPU memory makes more NUMA nodes than the kubelet accepts."""
    if numa.without_cpus and numa.total > NUMA_LIMIT and numa.memory_mode != BY_DRIVER:
        text = (
            f"the node has {numa.total} NUMA nodes, {numa.without_cpus} of them without CPUs, as "
            "the driver makes the memory of the GPUs system memory: the kubelet counts it as the "
            f"node's, and its topology manager accepts {NUMA_LIMIT} nodes; load the kernel module "
            f"nvidia with NVreg_CoherentGPUMemoryMode={BY_DRIVER}"
        )
        yield Problem(ProblemKind.NUMA_NODES, text)


def name_of_gpu(rules: Rules, gpu: Gpu) -> str:
    """Return the name of a whole GPU's resource before sharing."""
    names = (gpu.name, TEGRA) if gpu.integrated else (gpu.name,)
    return naming.full(naming.by_pattern(rules.gpus, *names) or WHOLE_GPU)


def name_of_instance(rules: Rules, instance: MigInstance) -> str:
    """Return the name of a MIG instance's resource before sharing."""
    default = WHOLE_GPU if rules.mig is MigStrategy.SINGLE else naming.of_profile(instance.profile)
    return naming.full(naming.by_pattern(rules.profiles, instance.profile) or default)


def _devices(rules: Rules, gpu: Gpu) -> Iterator[UnsharedDevice]:
    """Yield the devices to advertise for *gpu*: the whole GPU, or its MIG instances."""
    if gpu.mig_enabled and rules.mig is not MigStrategy.NONE:
        for instance in gpu.instances:
            yield _instance(rules, gpu, instance)
        return
    planned = PlannedDevice(
        gpu.uuid,
        gpu.uuid,
        1,
        index_of(gpu),
        gpu.numa_node,
        nodes_of(gpu),
        toolkit_id=gpu.toolkit_id,
    )
    names = frozenset({gpu.uuid, str(gpu.index)})
    yield UnsharedDevice(
        name_of_gpu(rules, gpu),
        planned,
        gpu.memory_mib,
        names,
        gpu.compute_capability,
        gpu.mig_enabled,
    )


def _instance(rules: Rules, gpu: Gpu, instance: MigInstance) -> UnsharedDevice:
    index = index_of(gpu, instance)
    caps = tuple(f"/dev/nvidia-caps/nvidia-cap{number}" for number in instance.capabilities)
    planned = PlannedDevice(instance.uuid, gpu.uuid, 1, index, gpu.numa_node, nodes_of(gpu) + caps)
    old_name = f"MIG-{gpu.uuid}/{instance.gi}/{instance.ci}"
    names = frozenset({instance.uuid, index, old_name})
    return UnsharedDevice(
        name_of_instance(rules, instance),
        planned,
        instance.memory_mib,
        names,
        gpu.compute_capability,
        gpu.mig_enabled,
    )


def _too_long(resource: ResourcePlan) -> Iterator[Problem]:
    size = list_bytes(resource)
    if size > LIST_LIMIT:
        text = (
            f"cannot advertise {resource.resource}: the list of its {resource.replicas} devices "
            f"has {size} bytes, but the kubelet accepts at most {LIST_LIMIT}; use fewer replicas"
        )
        yield Problem(ProblemKind.LIST_TOO_LONG, text)


def list_bytes(resource: ResourcePlan) -> int:
    """Return the bytes of the resource's device list when all devices are Unhealthy."""
    total = 0
    for device in resource.devices:
        # Of the message Device: 2 bytes around it, 2 each before ID and health, and the NUMA node.
        fixed = 2 + 2 + len(device.uuid) + 2 + len("Unhealthy")
        fixed += 0 if device.numa_node is None else 6 if device.numa_node else 4
        total += device.replicas * fixed
        if device.replicas > 1:
            total += device.replicas * len("::0") + _extra_digits(device.replicas)
    return total


def _extra_digits(count: int) -> int:
    """Return how many digits the numbers below *count* have beyond the first digit of each."""
    return sum(max(0, count - 10**power) for power in range(1, len(str(count))))
