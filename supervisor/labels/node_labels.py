"""Which labels a node has: decided from its inventory and from how its devices are advertised.

Keys and values are those of NVIDIA's GPU feature discovery v0.20, except where docs/labels.md says
why they differ. What nobody knows has no label, or is `unknown` where NVIDIA's label may be so too.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from proto.advertising import Advertising, MigStrategy
from proto.messages import Gpu, Inventory, MigInstance
from proto.names import is_display
from supervisor.labels import legal, machine_labels, resource_labels
from supervisor.labels.families import family
from supervisor.labels.machine_labels import MachineFacts
from supervisor.labels.resource_labels import (
    DeviceSharing,
    by_device,
    commonest,
    healthy_of,
    model_of,
)

DOMAIN = "nvidia.com/"

LONGEST = ".sharing-strategy"
"""The longest end of a MIG profile's key."""

Labels = Iterator[tuple[str, str]]
"""Labels by their keys without the domain; of two with the same key the later one counts."""


def labels(
    inventory: Inventory,
    advertising: Advertising,
    facts: MachineFacts = MachineFacts(),  # noqa: B008 - it is frozen
    healthy: Collection[str] | None = None,
) -> dict[str, str]:
    """Return the node's labels by their full keys, sorted.

    An *inventory* without a driver version says less: the driver has not answered yet. *healthy*
    are the UUIDs of all Healthy GPUs and MIG instances; None: no label tells of health.
    """
    gpus = [gpu for gpu in inventory.gpus if not is_display(gpu)]
    # Not by index: the driver may number the same GPUs otherwise after a restart.
    gpus.sort(key=_place)
    found = dict(machine_labels.of_vgpu(gpus, inventory))
    if facts.timestamp is not None:
        found["gfd.timestamp"] = str(facts.timestamp)
    if gpus:
        found |= machine_labels.of_machine(facts, inventory)
        found |= machine_labels.of_gpus(gpus, advertising)
        found |= _of_devices(gpus, advertising, healthy)
    return {DOMAIN + key: found[key] for key in sorted(found)}


def _of_devices(
    gpus: Sequence[Gpu], advertising: Advertising, healthy: Collection[str] | None
) -> Labels:
    shared = by_device(advertising)
    model = commonest(gpus, model_of)
    yield from _of_models(gpus, model)
    mine = [gpu for gpu in gpus if model_of(gpu) == model]
    yield from _prefixed("gpu", resource_labels.of_gpus(model, mine, shared))
    yield from _of_capability(mine)
    counted = [gpu.uuid for gpu in mine]
    if advertising.mig is not MigStrategy.NONE:
        yield "mig.strategy", str(advertising.mig)
    instances = sorted(
        ((gpu, mig) for gpu in gpus if gpu.mig_enabled for mig in gpu.instances),
        key=lambda pair: (_place(pair[0]), pair[1].place, pair[1].uuid),
    )
    if advertising.mig is MigStrategy.MIXED:
        yield from _of_profiles(instances, shared)
    elif advertising.mig is MigStrategy.SINGLE and any(gpu.mig_enabled for gpu in gpus):
        uniform = _is_uniform(gpus)
        single = resource_labels.of_instances(instances, shared) if uniform else None
        yield from _prefixed("gpu", single or resource_labels.of_invalid(model))
        counted = [mig.uuid for _, mig in instances] if uniform else []
    if healthy is not None:
        yield "gpu.healthy-count", healthy_of(counted, healthy)


def _place(gpu: Gpu) -> tuple[str, str]:
    """Return where *gpu* is among the others."""
    return gpu.pci_bus_id, gpu.uuid


def _of_models(gpus: Sequence[Gpu], model: str) -> Labels:
    """Yield how many GPUs of each model there are, if there are several models."""
    counts: dict[str, int] = defaultdict(int)
    for gpu in gpus:
        counts[legal.value(gpu.name, most=legal.LIMIT - len("gpu..count"))] += 1
    if any(model_of(gpu) != model for gpu in gpus):
        for name, count in counts.items():
            yield f"gpu.{name}.count", str(count)


def _of_capability(gpus: Sequence[Gpu]) -> Labels:
    known = (gpu.compute_capability for gpu in gpus if gpu.compute_capability)
    major, _, minor = next(known, "").partition(".")
    if major.isdecimal() and minor.isdecimal() and int(major):
        yield "gpu.family", family(int(major), int(minor))
        yield "gpu.compute.major", str(int(major))
        yield "gpu.compute.minor", str(int(minor))


def _is_uniform(gpus: Sequence[Gpu]) -> bool:
    """Return whether MIG strategy `single` can serve *gpus*, of which some are in MIG mode."""
    profiles = {mig.profile for gpu in gpus for mig in gpu.instances}
    return all(gpu.mig_enabled and gpu.instances for gpu in gpus) and len(profiles) == 1


def _of_profiles(
    instances: Sequence[tuple[Gpu, MigInstance]], shared: dict[str, DeviceSharing]
) -> Labels:
    profiles: dict[str, list[tuple[Gpu, MigInstance]]] = defaultdict(list)
    for gpu, mig in instances:
        profiles[_key_of(mig.profile)].append((gpu, mig))
    for key, alike in profiles.items():
        yield from _prefixed(key, resource_labels.of_instances(alike, shared))


def _key_of(profile: str) -> str:
    """Return how the keys of a MIG profile begin: `mig-1g.10gb.me` for 1g.10gb+me."""
    most = legal.LIMIT - len("mig-") - len(LONGEST)
    return f"mig-{legal.value(profile.replace('+', '.'), most=most)}"


def _prefixed(prefix: str, found: Labels) -> Labels:
    return ((f"{prefix}.{key}", value) for key, value in found)
