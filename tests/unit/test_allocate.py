"""Allocate: what a container gets for its device IDs, and which requests are refused."""

from typing import Any

import pytest

from health.device_nodes import CONTROL
from proto import deviceplugin_pb2 as api
from proto.messages import IMEX_CHANNEL
from proto.reasons import Reason, ReasonKind
from proto.worker import (
    AllocationPolicy,
    DeviceIdStrategy,
    DeviceListStrategy,
    Handout,
    PlannedDevice,
    ResourcePlan,
)
from workers import response
from workers.devices import View, replicas
from workers.response import RefusedError

ENVVAR, MOUNTS = DeviceListStrategy.ENVVAR, DeviceListStrategy.VOLUME_MOUNTS
INDEX = DeviceIdStrategy.INDEX
IMEX = IMEX_CHANNEL.format(0)
LOST = Reason(ReasonKind.GPU_LOST)
XID = Reason(ReasonKind.XID, "79")
PLAIN = Handout()

DEVICES = (
    PlannedDevice("A", "A", 2, "0", nodes=("/dev/nvidia1",)),
    PlannedDevice("B", "B", 2, "1", nodes=("/dev/nvidia0",)),
    PlannedDevice("C", "C", 1, "2"),
    PlannedDevice("M0", "D", 1, "3:0", nodes=("/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap3")),
    PlannedDevice("M1", "D", 2, "3:1", nodes=("/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap5")),
)


def view(unhealthy: dict[str, tuple[Reason, ...]] | None = None, **fields: Any) -> View:
    """Return the view of a worker that advertises these devices."""
    known = replicas(ResourcePlan("nvidia.com/gpu", DEVICES))
    return View("nvidia.com/gpu", known, unhealthy or {}, **fields)


def answer(handout: Handout, *ids: str, **fields: Any) -> api.ContainerAllocateResponse:
    """Return the answer of Allocate to a container with these device IDs."""
    return response.allocate(view(**fields), handout, ids)


def mounts(*names: str) -> list[api.Mount]:
    """Return the mounts that pass these device names to the container runtime."""
    root = "/var/run/nvidia-container-devices"
    return [api.Mount(host_path="/dev/null", container_path=f"{root}/{name}") for name in names]


IDS = {
    "one": (["A::0"], ["A"], ["0"]),
    "in the order asked": (["B::1", "A::0"], ["B", "A"], ["1", "0"]),
    "each device once": (["A::1", "B::0", "A::0"], ["A", "B"], ["0", "1"]),
    "not shared": (["C"], ["C"], ["2"]),
    "instances": (["M1::1", "M0"], ["M1", "M0"], ["3:1", "3:0"]),
}


@pytest.mark.parametrize(("ids", "uuids", "indices"), IDS.values(), ids=IDS)
def test_devices_in_the_environment(ids: list[str], uuids: list[str], indices: list[str]) -> None:
    """The environment variable lists each device once, in the order of the device IDs."""
    for handout, names in ((PLAIN, uuids), (Handout(id_strategy=INDEX), indices)):
        expected = {"NVIDIA_VISIBLE_DEVICES": ",".join(names)}
        assert answer(handout, *ids) == api.ContainerAllocateResponse(envs=expected)


@pytest.mark.parametrize(("ids", "uuids", "indices"), IDS.values(), ids=IDS)
def test_devices_as_mounts(ids: list[str], uuids: list[str], indices: list[str]) -> None:
    """With volume-mounts alone, mounts name the devices and the variable has their folder."""
    visible = {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"}
    for strategy, names in ((DeviceIdStrategy.UUID, uuids), (INDEX, indices)):
        found = answer(Handout((MOUNTS,), strategy), *ids)
        expected = api.ContainerAllocateResponse(envs=visible, mounts=mounts(*names))
        assert found == expected
    assert not any(mount.read_only for mount in found.mounts)


CRI, ANNOTATIONS = DeviceListStrategy.CDI_CRI, DeviceListStrategy.CDI_ANNOTATIONS


@pytest.mark.parametrize("strategies", [(ENVVAR,), (MOUNTS,), (ENVVAR, MOUNTS), (MOUNTS, CRI)])
def test_no_device(strategies: tuple[DeviceListStrategy, ...]) -> None:
    """A container that gets no device gets none from the variable of its image either."""
    expected = api.ContainerAllocateResponse(envs={"NVIDIA_VISIBLE_DEVICES": "void"})
    handout = Handout(strategies, imex_channels=(0,))
    assert answer(handout, nodes=(IMEX,)) == expected


@pytest.mark.parametrize("strategies", [(ANNOTATIONS,), (CRI,), (CRI, ANNOTATIONS)])
def test_no_device_by_cdi(strategies: tuple[DeviceListStrategy, ...]) -> None:
    """An empty device list gives no CDI name, and no annotation with an empty value."""
    assert answer(Handout(strategies)) == api.ContainerAllocateResponse()


@pytest.mark.parametrize("strategies", [(ENVVAR, MOUNTS), (MOUNTS, ENVVAR)])
def test_mounts_beside_the_environment(
    strategies: tuple[DeviceListStrategy, ...],
) -> None:
    """With envvar and volume-mounts together, the variable still lists the devices."""
    assert answer(Handout(strategies), "A::0", "C") == api.ContainerAllocateResponse(
        envs={"NVIDIA_VISIBLE_DEVICES": "A,C"}, mounts=mounts("A", "C")
    )


CONTROL_NODES = (*CONTROL[:2], IMEX)


def specs(root: str, *nodes: str) -> list[api.DeviceSpec]:
    """Return the device nodes that a container gets from below the host's *root*."""
    return [
        api.DeviceSpec(container_path=node, host_path=f"{root}{node}", permissions="rw")
        for node in nodes
    ]


NODES: dict[str, tuple[list[str], list[str]]] = {
    "a GPU": (["A::0"], ["/dev/nvidia1"]),
    "replicas of one GPU": (["A::1", "A::0"], ["/dev/nvidia1"]),
    "two GPUs": (["B::0", "A::0"], ["/dev/nvidia0", "/dev/nvidia1"]),
    "a GPU of which no node is known": (["C"], []),
    "an instance": (["M0"], ["/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap3"]),
    "two instances of one GPU": (
        ["M0", "M1::0"],
        ["/dev/nvidia3", "/dev/nvidia-caps/nvidia-cap3", "/dev/nvidia-caps/nvidia-cap5"],
    ),
}


@pytest.mark.parametrize("strategies", [(ENVVAR,), (MOUNTS,), (ENVVAR, MOUNTS)])
@pytest.mark.parametrize(("ids", "nodes"), NODES.values(), ids=NODES)
def test_device_nodes(
    ids: list[str], nodes: list[str], strategies: tuple[DeviceListStrategy, ...]
) -> None:
    """A container gets existing control nodes and its devices' nodes once; no IMEX channel."""
    handout = Handout(strategies, pass_device_specs=True)
    found = answer(handout, *ids, nodes=CONTROL_NODES)
    assert list(found.devices) == specs("", "/dev/nvidiactl", "/dev/nvidia-uvm", *nodes)


@pytest.mark.parametrize(
    ("root", "prefix"),
    [
        ("/", ""),
        ("", ""),
        ("/run/nvidia/driver", "/run/nvidia/driver"),
        ("/run/nvidia/driver/", "/run/nvidia/driver"),
        ("//", ""),
    ],
)
def test_the_root_of_device_nodes(root: str, prefix: str) -> None:
    """The host path of a device node begins with the host's root, its container path does not."""
    handout = Handout(pass_device_specs=True, dev_root=root)
    found = answer(handout, "A::0", nodes=("/dev/nvidiactl",))
    assert list(found.devices) == specs(prefix, "/dev/nvidiactl", "/dev/nvidia1")


def test_without_pass_device_specs_there_are_no_nodes() -> None:
    """Without pass-device-specs, Allocate passes no device nodes."""
    assert list(answer(PLAIN, "A::0", nodes=CONTROL_NODES).devices) == []


@pytest.mark.parametrize("strategies", [(ENVVAR,), (MOUNTS,), (ENVVAR, MOUNTS)])
@pytest.mark.parametrize("there", [True, False], ids=["there", "missing"])
def test_a_channel(
    strategies: tuple[DeviceListStrategy, ...],
    there: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A container gets an existing IMEX channel in the same way as its devices."""
    handout = Handout(strategies, imex_channels=(0,), pass_device_specs=True)
    found = answer(handout, "C", nodes=(IMEX,) if there else ())
    by_variable = there and ENVVAR in strategies
    assert found.envs.get("NVIDIA_IMEX_CHANNELS") == ("0" if by_variable else None)
    named = ["C", "imex/0"] if there else ["C"]
    assert list(found.mounts) == (mounts(*named) if MOUNTS in strategies else [])
    assert list(found.devices) == (specs("", IMEX) if there else [])


def test_several_channels() -> None:
    """A container gets all of the IMEX channels that exist, in the order of the settings."""
    nodes = tuple(map(IMEX_CHANNEL.format, (3, 0)))
    handout = Handout((ENVVAR, MOUNTS), imex_channels=(3, 1, 0), pass_device_specs=True)
    found = answer(handout, "C", nodes=nodes)
    assert found.envs["NVIDIA_IMEX_CHANNELS"] == "3,0"
    assert list(found.mounts) == mounts("C", "imex/3", "imex/0")
    assert list(found.devices) == specs("", *nodes)


@pytest.mark.parametrize("strategies", [(ENVVAR,), (MOUNTS,)])
@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ((), {}),
        (("gds",), {"NVIDIA_GDS": "enabled"}),
        (
            ("gdrcopy", "gds", "mofed"),
            {"NVIDIA_GDRCOPY": "enabled", "NVIDIA_GDS": "enabled", "NVIDIA_MOFED": "enabled"},
        ),
    ],
    ids=["none", "one", "all"],
)
def test_features(
    strategies: tuple[DeviceListStrategy, ...],
    features: tuple[str, ...],
    expected: dict[str, str],
) -> None:
    """Each enabled feature is an environment variable for the container runtime."""
    envs = dict(answer(Handout(strategies, features=features), "A::0").envs)
    del envs["NVIDIA_VISIBLE_DEVICES"]
    assert envs == expected


def test_a_healthy_device_is_given_beside_an_unhealthy_one() -> None:
    """A Healthy device can be allocated while another device is Unhealthy."""
    found = answer(PLAIN, "A::0", unhealthy={"B": (LOST,)})
    assert found.envs["NVIDIA_VISIBLE_DEVICES"] == "A"


SPREAD = Handout(policy=AllocationPolicy.SPREAD)
SINGLE = Handout(single_replica=True)
FEWER = "and policy spread allows 1 per GPU; request fewer"
ONLY_ONE = "it is shared, and failRequestsGreaterThanOne allows 1 per container; request 1"

REFUSED: dict[str, tuple[Handout, list[str], str]] = {
    "unknown": (PLAIN, ["A::0", "X"], '"X": nvidia.com/gpu has no device with this ID'),
    "UUID of a shared device": (PLAIN, ["A"], '"A": nvidia.com/gpu has no device with this ID'),
    "replica that does not exist": (
        PLAIN,
        ["A::2"],
        '"A::2": nvidia.com/gpu has no device with this ID',
    ),
    "replica of a device that is not shared": (
        PLAIN,
        ["C::0"],
        '"C::0": nvidia.com/gpu has no device with this ID',
    ),
    "unhealthy": (
        PLAIN,
        ["A::0", "B::1"],
        '"B::1" of nvidia.com/gpu: it is Unhealthy (gpu-lost, xid 79)',
    ),
    "two replicas of one GPU by spread": (
        SPREAD,
        ["A::0", "A::1"],
        f"2 of nvidia.com/gpu: several are on A, {FEWER}",
    ),
    "two instances of one GPU by spread": (
        SPREAD,
        ["A::0", "M0", "M1::0"],
        f"3 of nvidia.com/gpu: several are on D, {FEWER}",
    ),
    "two replicas where one is allowed": (
        SINGLE,
        ["A::0", "A::1"],
        f"2 of nvidia.com/gpu: {ONLY_ONE}",
    ),
    "replicas of two GPUs where one is allowed": (
        SINGLE,
        ["A::0", "B::0"],
        f"2 of nvidia.com/gpu: {ONLY_ONE}",
    ),
    "a replica beside devices that are not shared": (
        SINGLE,
        ["C", "M0", "B::0"],
        f"3 of nvidia.com/gpu: {ONLY_ONE}",
    ),
}


@pytest.mark.parametrize(("handout", "ids", "problem"), REFUSED.values(), ids=REFUSED)
def test_requests_that_are_refused(handout: Handout, ids: list[str], problem: str) -> None:
    """Allocate refuses the whole request, and its error says what is wrong."""
    with pytest.raises(RefusedError) as refused:
        answer(handout, *ids, unhealthy={"B": (LOST, XID)} if handout is PLAIN else {})
    assert str(refused.value) == f"cannot allocate {problem}"


@pytest.mark.parametrize(
    ("handout", "ids"),
    [
        (SPREAD, ["A::0", "B::0", "C", "M1::0"]),
        (SPREAD, ["A::1"]),
        (SPREAD, []),
        (SINGLE, ["A::0"]),
        (SINGLE, ["C", "M0"]),
        (SINGLE, []),
        (PLAIN, ["A::0", "A::1", "M0", "M1::0"]),
        (Handout(policy=AllocationPolicy.PACKED), ["A::0", "A::1"]),
    ],
)
def test_requests_that_are_allowed(handout: Handout, ids: list[str]) -> None:
    """No policy refuses distinct GPUs, a single replica, or devices that are not shared."""
    uuids = dict.fromkeys(name.split("::")[0] for name in ids)
    assert answer(handout, *ids).envs["NVIDIA_VISIBLE_DEVICES"] == (",".join(uuids) or "void")
