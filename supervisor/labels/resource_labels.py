"""The labels of devices that are counted together: GPUs of a model, MIG instances of a profile."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from proto.advertising import Advertised, Advertising, SharingStrategy
from proto.messages import Gpu, MigInstance
from supervisor.labels import legal

SHARED = "-SHARED"
"""The end of the product of devices that are shared under the name that they have unshared."""

LONGEST_MIG = 26
"""Most characters that a MIG profile has in the product of its instances."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class DeviceSharing:
    """How devices are shared; by default they are not advertised at all."""

    replicas: int = 0
    strategy: SharingStrategy = SharingStrategy.NONE
    renamed: bool = False

    @classmethod
    def of(cls, advertised: Advertised) -> "DeviceSharing":
        """Return how the devices of *advertised* are shared."""
        return cls(advertised.replicas, advertised.strategy, advertised.renamed)

    @property
    def suffix(self) -> str:
        """What the product ends in."""
        return SHARED if self.replicas > 1 and not self.renamed else ""


NOT_ADVERTISED = DeviceSharing()


def by_device(advertising: Advertising) -> dict[str, DeviceSharing]:
    """Return how each device is shared, by UUID."""
    return {
        uuid: DeviceSharing.of(advertised)
        for advertised in advertising.resources
        for uuid in advertised.devices
    }


def commonest(things: Iterable[T], key: Callable[[T], K]) -> K:
    """Return the key that most of the *things* have; of equally many, that of the first."""
    counts = Counter(map(key, things))
    return max(counts, key=counts.__getitem__)  # of a tie, the first


def model_of(gpu: Gpu) -> str:
    """Return the model of *gpu* as labels name it."""
    return legal.value(gpu.name)


def of_gpus(
    model: str, gpus: Sequence[Gpu], shared: dict[str, DeviceSharing]
) -> Iterator[tuple[str, str]]:
    """Yield the labels of all GPUs of a *model*, in order; those in MIG mode share nothing."""
    whole = [gpu for gpu in gpus if not gpu.mig_enabled]
    sharing = NOT_ADVERTISED
    if whole:
        sharing = commonest(whole, lambda gpu: shared.get(gpu.uuid, NOT_ADVERTISED))
    yield "product", legal.value(model, sharing.suffix)
    yield from _counted(len(gpus), sharing, [gpu.memory_mib for gpu in (*whole, *gpus)])


def of_instances(
    instances: Sequence[tuple[Gpu, MigInstance]], shared: dict[str, DeviceSharing]
) -> Iterator[tuple[str, str]]:
    """Yield the labels of MIG *instances* of one profile, in order."""
    model = commonest(instances, lambda pair: model_of(pair[0]))
    profile = legal.value(instances[0][1].profile, most=LONGEST_MIG)
    sharing = commonest(instances, lambda pair: shared.get(pair[1].uuid, NOT_ADVERTISED))
    yield "product", legal.value(model, f"-MIG-{profile}{sharing.suffix}")
    yield from _counted(len(instances), sharing, [mig.memory_mib for _, mig in instances])
    found = next((mig.attributes for _, mig in instances if mig.attributes), None)
    if found:
        yield "multiprocessors", str(found.multiprocessors)
        yield "slices.gi", str(found.gi_slices)
        yield "slices.ci", str(found.ci_slices)
        yield "engines.copy", str(found.copy_engines)
        yield "engines.decoder", str(found.decoders)
        yield "engines.encoder", str(found.encoders)
        yield "engines.jpeg", str(found.jpeg_engines)
        yield "engines.ofa", str(found.ofa_engines)


def of_invalid(model: str) -> Iterator[tuple[str, str]]:
    """Yield the labels of a node that MIG strategy `single` cannot serve."""
    yield "product", legal.value(model, "-MIG-INVALID")
    yield "count", "0"
    yield "replicas", "0"
    yield "sharing-strategy", ""
    yield "memory", "0"


def _counted(
    count: int, sharing: DeviceSharing, memory_mib: Iterable[int | None]
) -> Iterator[tuple[str, str]]:
    yield "count", str(count)
    yield "replicas", str(sharing.replicas)
    yield "sharing-strategy", str(sharing.strategy)
    if known := next(filter(None, memory_mib), None):
        yield "memory", str(known)


def healthy_of(uuids: Iterable[str], healthy: Collection[str]) -> str:
    """Return how many of *uuids* are *healthy*."""
    return str(sum(uuid in healthy for uuid in uuids))
