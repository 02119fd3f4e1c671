"""Which GPUs and MIG instances containers hold through DRA, and which are advertised here too."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from proto.control import ServiceState
from proto.problem import ProblemKind
from supervisor.commands.show_status import show
from supervisor.status import dra, page
from supervisor.status.allocations import DynamicDevice
from supervisor.status.dra import Match
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About, status
from tests.unit.builders import (
    gpu,
    gpu_uuid,
    inventory,
    mig_gpu,
    mig_uuid,
    node_state,
    worker_state,
)

NODE = inventory(gpu(0, minor=3), mig_gpu(1, "1g.10gb", "1g.10gb", "1g.10gb+me", "3g.40gb"))
FIRST, SECOND = gpu_uuid(0), gpu_uuid(1)
SMALL = (mig_uuid(1, 0), mig_uuid(1, 1))
MEDIA, LARGE = mig_uuid(1, 2), mig_uuid(1, 3)


def device(name: str, driver: str = dra.NVIDIA, uuids: tuple[str, ...] = ()) -> DynamicDevice:
    """Return a device that a container holds through DRA."""
    return DynamicDevice(driver, "node", name, "ns/claim", "ns", "pod", "main", uuids)


FOUND: Mapping[str, tuple[DynamicDevice, Match, tuple[str, ...]]] = {
    "GPU by minor": (device("gpu-3"), Match.NAME, (FIRST,)),
    "GPU in MIG mode": (device("gpu-1"), Match.NAME, (SECOND,)),
    "the only instance of a profile": (device("gpu-1-mig-3g40gb-9-4"), Match.NAME, (LARGE,)),
    "a profile with a plus": (device("gpu-1-mig-1g10gb-me-20-6"), Match.NAME, (MEDIA,)),
    "one of two instances": (device("gpu-1-mig-1g10gb-19-0"), Match.PROFILE, SMALL),
    "UUID of a GPU": (device("x", "example.com", (FIRST.lower(),)), Match.UUID, (FIRST,)),
    "UUID of an instance": (device("x", "", (LARGE.lower(),)), Match.UUID, (LARGE,)),
    "a UUID counts more than a name": (
        device("gpu-3", uuids=(SECOND.lower(),)),
        Match.UUID,
        (SECOND,),
    ),
    "a UUID of elsewhere": (device("gpu-3", uuids=("gpu-x",)), Match.NAME, (FIRST,)),
}


@pytest.mark.parametrize(("held", "match", "uuids"), FOUND.values(), ids=FOUND)
def test_a_device_is_found(held: DynamicDevice, match: Match, uuids: tuple[str, ...]) -> None:
    """A UUID is certain; else the name that NVIDIA's driver writes tells the device or profile."""
    (found,) = dra.holds([held], NODE)
    assert (found.match, found.uuids) == (match, uuids)


@pytest.mark.parametrize(
    "held",
    [
        device("gpu-0"),  # the index, which is not the minor number
        device("gpu-vfio-3"),
        device("gpu-3", "gpu.example.com"),
        device("gpu-1-mig-2g20gb-14-0"),
        device("gpu-1-mig-1g10gb"),
        device("gpu-99999999999999999999"),
        device("gpu-3\n"),
        device("x", "example.com", ("gpu-x",)),
        device(""),
    ],
)
def test_a_device_of_elsewhere(held: DynamicDevice) -> None:
    """A name that fits no GPU here is no GPU of ours."""
    assert dra.holds([held], NODE) == ()


@given(st.text(), st.sampled_from([dra.NVIDIA, ""]), st.lists(st.text(), max_size=2))
def test_any_name(name: str, driver: str, texts: list[str]) -> None:
    """No name is an error, and only devices of the node are found."""
    for found in dra.holds([device(name, driver, dra.uuids_in(texts))], NODE):
        assert set(found.uuids) <= {FIRST, SECOND, *SMALL, MEDIA, LARGE}


def booked(name: str, *advertised: str) -> set[str]:
    """Return which advertised devices are held by this name."""
    return set(dra.booked_twice(dra.holds([device(name)], NODE), NODE, advertised))


def test_what_is_booked_twice() -> None:
    """An advertised device is held with its GPU or with an instance of it, and else not."""
    everything = (FIRST, SECOND, *SMALL, MEDIA, LARGE)
    assert booked("gpu-3", *everything) == {FIRST}
    assert booked("gpu-3", SECOND) == set()
    assert booked("gpu-1", *everything) == set(everything) - {FIRST}
    assert booked("gpu-1-mig-3g40gb-9-4", *everything) == {SECOND, LARGE}
    assert booked("gpu-1-mig-1g10gb-19-0", *SMALL, LARGE) == set(SMALL)


def snapshot(*dynamic: DynamicDevice, **fields: Any) -> Snapshot:
    """Return a node that advertises its first GPU."""
    worker = worker_state(replicas={FIRST: 1})
    return Snapshot(
        service=ServiceState(processes=(), planned=(worker.resource,)),
        node=msgspec.structs.replace(node_state({}), inventory=NODE),
        workers={worker.resource: (worker, 0.0)},
        **{"allocations": (), "dynamic": dynamic, **fields},
    )


TWICE = "ns/pod/main (claim ns/claim, gpu-3 of gpu.nvidia.com)"


def test_the_problem() -> None:
    """The problem names the holder and the device; what is not advertised here is no problem."""
    (problem,) = snapshot(device("gpu-3"), device("gpu-1")).problems() or ()
    assert problem.kind is ProblemKind.ALSO_SERVED_BY_DRA
    assert problem.text.startswith(f"{TWICE} holds {FIRST} through DRA, and")
    assert not problem.fatal
    assert snapshot(device("gpu-1")).problems() == ()
    # Whatever the order in which the kubelet lists the pods.
    other = dataclasses.replace(device("gpu-3"), pod="another")
    texts = {
        problem.text
        for held in ((other, device("gpu-3")), (device("gpu-3"), other))
        for problem in snapshot(*held).problems() or ()
    }
    assert len(texts) == 1
    assert snapshot().problems() == ()


def test_the_status_shows_the_holder() -> None:
    """Each GPU shows who holds it through DRA; null while the kubelet does not answer."""
    about = About(version="1", stale_after=10.0)
    shown = status(snapshot(device("gpu-3"), device("gpu-1-mig-1g10gb-19-0")), about, 0.0, 0.0)
    assert shown.gpus
    (first,), (second,) = (known.dra_holders or () for known in shown.gpus)
    assert (first.uuids, first.match, first.advertised) == ((FIRST,), "name", True)
    assert (second.uuids, second.match, second.advertised) == (SMALL, "profile", False)
    terminal = io.StringIO()
    show(shown, Console(file=terminal, width=200))
    for text in (page.page(shown, {}), terminal.getvalue()):
        assert "gpu.nvidia.com" in text
        assert "held through DRA" in text
        assert "ns/pod/main (gpu-3)" in text
    unknown = status(snapshot(device("gpu-3"), allocations=None), about, 0.0, 0.0)
    assert [known.dra_holders for known in unknown.gpus or ()] == [None, None]
