"""Builds the answers to the kubelet from a view and a request alone."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from proto import deviceplugin_pb2 as api
from proto.messages import IMEX_CHANNEL, Health
from proto.names import handed_out
from proto.worker import CDI_STRATEGIES, AllocationPolicy, DeviceListStrategy, Handout
from workers import mps_access
from workers.allocation import doubled
from workers.device_log import MOST_IDS
from workers.devices import Replica, View

MOUNT_ROOT = "/var/run/nvidia-container-devices"
"""Where the NVIDIA runtime looks for mounts that name devices; an image cannot add such mounts."""

NO_DEVICES = "void"
"""What tells the NVIDIA runtime to add no GPU; without it, the variable of an image decides."""


SHOWN = 100
"""Characters of an unknown ID in an error; gRPC sends errors in a header of limited size."""


class RefusedError(Exception):
    """The request is refused; the kubelet rejects the pod and shows this text."""


def device_list(replicas: Iterable[Replica], health: Health) -> api.ListAndWatchResponse:
    """Return the list of *replicas* with the same *health* for all."""
    return api.ListAndWatchResponse(
        devices=(
            api.Device(ID=replica.id, health=health, topology=_topology(replica.numa_node))
            for replica in replicas
        )
    )


def _topology(numa_node: int | None) -> api.TopologyInfo | None:
    # Not an empty TopologyInfo: a kubelet reads that as NUMA node 0.
    return None if numa_node is None else api.TopologyInfo(nodes=[api.NUMANode(ID=numa_node)])


def allocate(view: View, handout: Handout, ids: Sequence[str]) -> api.ContainerAllocateResponse:
    """Return how a container gets the devices *ids*; raise RefusedError to refuse them."""
    replicas = [_usable(view, name) for name in ids]
    _require_allowed(view, handout, replicas)
    # In the order of the request; each GPU once, even for several of its replicas.
    strategy = handout.id_strategy
    handed = (r.toolkit_id or handed_out(r.uuid, r.index, strategy) for r in replicas)
    names = tuple(dict.fromkeys(handed))
    channels = [n for n in handout.imex_channels if IMEX_CHANNEL.format(n) in view.nodes]
    response = api.ContainerAllocateResponse()
    for feature in handout.features:
        response.envs[f"NVIDIA_{feature.upper()}"] = "enabled"
    mps_access.add(response, view.resource, handout.mps_root, replicas)
    if names and CDI_STRATEGIES & set(handout.list_strategies):
        _name_by_cdi(response, view, handout, names, channels)
    if set(handout.list_strategies) <= CDI_STRATEGIES:
        return response
    _name_to_runtime(response, handout, names, channels)
    if handout.pass_device_specs:
        control = (node for node in view.nodes if "imex" not in node)
        nodes = (*control, *(n for r in replicas for n in r.nodes))
        nodes += tuple(map(IMEX_CHANNEL.format, channels))
        response.devices.extend(_device_specs(handout.dev_root, nodes))
    return response


def _usable(view: View, name: str) -> Replica:
    replica = view.replicas.get(name)
    if replica is None:
        shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
        raise RefusedError(f'cannot allocate "{shown}": {view.resource} has no device with this ID')
    if reasons := view.unhealthy.get(replica.uuid):
        why = ", ".join(map(str, reasons))
        raise RefusedError(f'cannot allocate "{name}" of {view.resource}: it is Unhealthy ({why})')
    return replica


def _require_allowed(view: View, handout: Handout, replicas: Sequence[Replica]) -> None:
    if why := mps_access.refusal(replicas):
        raise RefusedError(f"cannot allocate {len(replicas)} of {view.resource}: {why}")
    if any(replica.mps for replica in replicas):
        return  # all of one device, whatever the policy
    shared = any(replica.id != replica.uuid for replica in replicas)
    if handout.single_replica and shared and len(replicas) > 1:
        raise RefusedError(
            f"cannot allocate {len(replicas)} of {view.resource}: it is shared, and "
            "failRequestsGreaterThanOne allows 1 per container; request 1"
        )
    if handout.policy is not AllocationPolicy.SPREAD:
        return
    if twice := doubled(view.replicas, [replica.id for replica in replicas]):
        raise RefusedError(
            f"cannot allocate {len(replicas)} of {view.resource}: several are on "
            f"{_named(twice)}, and policy spread allows 1 per GPU; request fewer"
        )


def _named(gpus: Sequence[str]) -> str:
    return ", ".join(gpus) if len(gpus) <= MOST_IDS else f"{len(gpus)} GPUs"


def _extras(view: View, handout: Handout, channels: Iterable[int]) -> list[str]:
    """Return the CDI names of features and IMEX channels.

    Names without a CDI specification are left out, as the runtime could not resolve them.
    """
    vendor, known = handout.cdi_kind.partition("/")[0], view.cdi_kinds
    there = (str(n) for n in channels if not known or str(n) in view.cdi_channels)
    names = [(f"{vendor}/imex-channel", channel) for channel in there]
    names += [(f"{vendor}/{feature}", "all") for feature in handout.features]
    return [f"{kind}={name}" for kind, name in names if not known or kind in known]


def _name_by_cdi(
    response: api.ContainerAllocateResponse,
    view: View,
    handout: Handout,
    names: Iterable[str],
    channels: Iterable[int],
) -> None:
    qualified = [f"{handout.cdi_kind}={name}" for name in names]
    qualified += _extras(view, handout, channels)
    if DeviceListStrategy.CDI_ANNOTATIONS in handout.list_strategies:
        # The same devices must give the same key, and different devices a different one.
        digest = hashlib.sha256(",".join(qualified).encode()).hexdigest()[:32]
        key = f"{handout.cdi_annotation_prefix}nvidia-device-plugin_{digest}"
        response.annotations[key] = ",".join(qualified)
    if DeviceListStrategy.CDI_CRI in handout.list_strategies:
        response.cdi_devices.extend(api.CDIDevice(name=name) for name in qualified)


def _name_to_runtime(
    response: api.ContainerAllocateResponse,
    handout: Handout,
    names: Sequence[str],
    channels: Sequence[int],
) -> None:
    """Name the devices for NVIDIA's container runtime: in the environment, as mounts, or both."""
    if not names:
        response.envs["NVIDIA_VISIBLE_DEVICES"] = NO_DEVICES
        return
    strategies = handout.list_strategies
    if DeviceListStrategy.VOLUME_MOUNTS in strategies:
        # Points the runtime at the mounts; with `envvar` the list below replaces it.
        response.envs["NVIDIA_VISIBLE_DEVICES"] = MOUNT_ROOT
        paths = [*names, *(f"imex/{channel}" for channel in channels)]
        for path in paths:
            response.mounts.add(host_path="/dev/null", container_path=f"{MOUNT_ROOT}/{path}")
    if DeviceListStrategy.ENVVAR in strategies:
        response.envs["NVIDIA_VISIBLE_DEVICES"] = ",".join(names)
        if channels:
            response.envs["NVIDIA_IMEX_CHANNELS"] = ",".join(map(str, channels))


def _device_specs(dev_root: str, nodes: Iterable[str]) -> Iterator[api.DeviceSpec]:
    root = dev_root.rstrip("/")
    for node in dict.fromkeys(nodes):  # MIG instances of one GPU share its device node
        yield api.DeviceSpec(container_path=node, host_path=f"{root}{node}", permissions="rw")
