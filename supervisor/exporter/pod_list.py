"""Reads the kubelet's list of pods within bounds, whatever the list contains.

The exporter answers the kubelet's probes meanwhile: so the list is decoded pod by pod, and reading
it pauses again and again. Decoding it whole takes seconds, and many times its size in memory.
"""

import asyncio
import time
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from proto import podresources_pb2 as api
from supervisor.status import dra
from supervisor.status.allocations import Allocation, DynamicDevice, Held

LONGEST_LIST = 16 << 20
"""Bytes. The list of 500 pods that hold 800 replicas has 0.2 MB. If pods hold all devices of the
longest device list that the kubelet accepts, about 65,000, their list has 5 MB. A container with
the longest name has 67 bytes, so MOST_ENTRIES containers that hold nothing have 9.6 MiB.
"""

LONGEST_POD = 1 << 20
"""Bytes, as a pod is decoded in one step; enough for 13,000 devices."""

MOST_ENTRIES = 150_000
"""Pods, containers, devices, claims and CDI names; 65,000 devices make 130,000 entries."""

MOST_TEXT = 16 << 20
"""Characters of all holders: the list names a pod once, our answers name it for each device."""

MOST_DYNAMIC = 10_000
"""GPUs held through DRA: each is matched with our devices in one step, for each answer."""

TURN = 0.005
"""Seconds until reading pauses, so that the exporter can answer others."""

Entry = Allocation | DynamicDevice | None
"""What a container holds; None: an entry of the list that is no such thing."""

UUIDS = ("GPU-", "MIG-")
"""How most of the driver's UUIDs begin."""

PODS = 1
"""The number of the only field of a ListPodResourcesResponse."""


class NonsenseError(Exception):
    """The list cannot be decoded, or is too long."""


async def read(
    data: bytes, resources: frozenset[str], devices: frozenset[str] = frozenset()
) -> Held:
    """Return each device of our *resources* that a container holds, without duplicates.

    Also return GPUs held by other resources, of another plugin, or of ours before a reload, and
    devices held through DRA that may be GPUs. *devices* are the UUIDs of this node, some of which
    do not look like one: `all` on WSL2, `tegra`.
    A duplicate would be a second metric series with the same labels, and count as used twice.
    Raises NonsenseError.
    """
    found: dict[Allocation | DynamicDevice, None] = {}
    text, dynamic, pause = 0, 0, time.monotonic() + TURN
    for number, entry in enumerate(entries(data, resources, devices)):
        if entry and entry not in found:
            found[entry] = None
            text += entry.characters
            dynamic += isinstance(entry, DynamicDevice)
        if number >= MOST_ENTRIES or text > MOST_TEXT or dynamic > MOST_DYNAMIC:
            raise NonsenseError
        if time.monotonic() >= pause:
            await asyncio.sleep(0)
            pause = time.monotonic() + TURN
    return Held(
        tuple(entry for entry in found if isinstance(entry, Allocation)),
        tuple(entry for entry in found if isinstance(entry, DynamicDevice)),
    )


def entries(data: bytes, resources: frozenset[str], devices: frozenset[str]) -> Iterator[Entry]:
    """Yield what is held, and None for every other entry, so that the caller can count it.

    Raises NonsenseError.
    """
    for field, value in _fields(data):
        yield None
        if field == PODS:
            yield from _held(_pod(value), resources, devices)


def _held(
    pod: api.PodResources, resources: frozenset[str], known: frozenset[str]
) -> Iterator[Entry]:
    # Each access to a field copies its text: so name the pod and the container once.
    namespace, name = pod.namespace, pod.name
    for container in pod.containers:
        yield None
        holder = container.name
        for devices in container.devices:
            yield None
            resource = devices.resource_name
            # Of others only the first is looked at: there may be very many.
            first = next(iter(devices.device_ids), "")
            if (
                resource in resources
                or first.startswith(UUIDS)
                or first.partition("::")[0] in known
            ):
                for device in devices.device_ids:
                    yield Allocation(resource, device, namespace, name, holder)
        for claim in container.dynamic_resources:
            yield None
            yield from _claimed(claim, (namespace, name, holder))


def _claimed(claim: api.DynamicResource, holder: tuple[str, str, str]) -> Iterator[Entry]:
    """Yield the devices of a *claim* that may be GPUs: there may be very many of other drivers."""
    named = ""
    for device in claim.claim_resources:
        driver, name = device.driver_name, device.device_name
        uuids = dict.fromkeys(dra.uuids_in([name]))
        for cdi in device.cdi_devices:
            yield None
            uuids.update(dict.fromkeys(dra.uuids_in([cdi.name])))
        if not dra.may_be_gpu(driver, uuids):
            yield None
            continue
        named = named or f"{claim.claim_namespace}/{claim.claim_name}"
        yield DynamicDevice(driver, device.pool_name, name, named, *holder, tuple(uuids))


def _pod(data: bytes) -> api.PodResources:
    if len(data) > LONGEST_POD:
        raise NonsenseError
    try:
        return api.PodResources.FromString(data)
    except DecodeError as error:
        raise NonsenseError from error


VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
"""Kinds of fields: https://protobuf.dev/programming-guides/encoding/."""

FIXED = {FIXED_64: 8, FIXED_32: 4}

HIGHEST_FIELD = (1 << 29) - 1

LONGEST_TAG, LONGEST_VARINT = 5, 10
"""Bytes that protobuf reads of the number before a field, or before bytes, and of any other."""


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the value of each field; the value is empty unless it is bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at, LONGEST_TAG)
        field, kind = tag >> 3, tag & 7
        if not 0 < field <= HIGHEST_FIELD:
            raise NonsenseError
        start = at
        if kind in {VARINT, BYTES}:
            size, start = _varint(data, at, LONGEST_VARINT if kind == VARINT else LONGEST_TAG)
            at = start + (size if kind == BYTES else 0)
        elif kind in FIXED:
            at += FIXED[kind]
        else:  # a group, which no version of this API has
            raise NonsenseError
        if at > len(data):
            raise NonsenseError
        yield field, data[start:at] if kind == BYTES else b""


def _varint(data: bytes, at: int, longest: int) -> tuple[int, int]:
    """Return the number at *at*, of at most *longest* bytes, and where it ends."""
    number = 0
    for shift in range(0, 7 * longest, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says whether more follows
            return number, at
    raise NonsenseError
