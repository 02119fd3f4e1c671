"""The labels of a node by the rules of a configuration, as the service decides them."""

from collections.abc import Collection, Sequence

from proto.advertising import Advertising, MigStrategy
from proto.facts import MigAttributes
from proto.messages import Gpu, Inventory, MigInstance
from supervisor.advertising import advertising
from supervisor.config.file_schema import (
    Mps,
    MpsResource,
    Portion,
    SharedResource,
    Sharing,
    TimeSlicing,
)
from supervisor.config.sharing import from_file
from supervisor.labels.machine_labels import MachineFacts
from supervisor.labels.node_labels import labels
from supervisor.plan import Rules, plan
from tests.unit.builders import gpu, gpu_uuid, mig_uuid

Numbers = Sequence[int]
DOMAIN = "nvidia.com/"

MACHINE = ("cuda.", "gfd.", "gpu.clique", "gpu.machine", "gpu.mode", "mig.capable", "mps.", "vgpu.")
"""How the labels begin that are not about the devices of a resource."""


def twice(*names: str, rename: str | None = None) -> dict[str, SharedResource]:
    """Return how each resource is shared by two, by name."""
    return {name: SharedResource(name, 2, rename) for name in names}


def rules(
    mig: MigStrategy = MigStrategy.NONE, shared: dict[str, SharedResource] | None = None
) -> Rules:
    """Return the rules of a configuration with this strategy and `sharing.timeSlicing`."""
    slicing = TimeSlicing(tuple(shared.values())) if shared else None
    return Rules(mig, shares=from_file(Sharing(time_slicing=slicing)))


def by_mps(replicas: int = 2, rename: str | None = None) -> Rules:
    """Return the rules of a configuration that shares GPUs by MPS."""
    threads: Portion | int = Portion.SHARE if replicas > 1 else 50
    gpus = MpsResource("nvidia.com/gpu", replicas, rename, threads=threads)
    return Rules(shares=from_file(Sharing(mps=Mps((gpus,)))))


def told(gpus: Sequence[Gpu], by: Rules) -> Advertising:
    """Return what the processes that label a node with *gpus* are told."""
    node = Inventory("580.95.05", tuple(gpus))
    return advertising(by, node, plan(by, node))


def labels_of(
    gpus: Sequence[Gpu],
    by: Rules | Advertising = Rules(),  # noqa: B008 - it is frozen
    facts: MachineFacts = MachineFacts(),  # noqa: B008 - it is frozen
    healthy: Collection[str] | None = None,
) -> dict[str, str]:
    """Return the labels of a node, without their domain."""
    known = by if isinstance(by, Advertising) else told(gpus, by)
    found = labels(Inventory("580.95.05", tuple(gpus), cuda_version=13000), known, facts, healthy)
    return {key.removeprefix(DOMAIN): value for key, value in found.items()}


def of_resources(found: dict[str, str]) -> dict[str, str]:
    """Return the labels about the devices of resources only."""
    return {key: value for key, value in found.items() if not key.startswith(MACHINE)}


def whole(place: int = 0, **fields: object) -> Gpu:
    """Return the GPU of NVIDIA's tests: MOCKMODEL, 300 MiB, compute capability 8.0."""
    usual = {"name": "MOCKMODEL", "memory_mib": 300, "compute_capability": "8.0"}
    return gpu(place, **usual | fields)


def in_mig_mode(place: int, *instances: MigInstance, **fields: object) -> Gpu:
    """Return such a GPU in MIG mode; in NVIDIA's tests it has no compute capability."""
    usual = {"compute_capability": None, "mig_enabled": True, "instances": instances}
    return whole(place, **usual | fields)


def part(
    gpu_place: int, place: int, slices: tuple[int, int], memory: int, attributes: Numbers = (0,) * 6
) -> MigInstance:
    """Return a MIG instance with so many slices (GI, CI) and MiB or, in its profile, GB."""
    gi, ci = slices
    sms, copy, decoders, encoders, jpeg, ofa = attributes
    return MigInstance(
        mig_uuid(gpu_place, place),
        place,
        7 + place,
        0,
        f"{gi}g.{memory}gb",
        memory,
        attributes=MigAttributes(sms, gi, ci, copy, decoders, encoders, jpeg, ofa),
    )


def uuids(count: int) -> tuple[str, ...]:
    """Return the UUIDs of the first GPUs."""
    return tuple(map(gpu_uuid, range(count)))
