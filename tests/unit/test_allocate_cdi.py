"""Allocate with CDI: which CDI device names a container gets, and what else."""

import re
from typing import Any

import pytest

from proto import deviceplugin_pb2 as api
from proto.messages import IMEX_CHANNEL
from proto.worker import DeviceIdStrategy, DeviceListStrategy, Handout
from tests.unit.test_allocate import mounts, view
from workers import response

ENVVAR, MOUNTS = DeviceListStrategy.ENVVAR, DeviceListStrategy.VOLUME_MOUNTS
ANNOTATIONS, CRI = DeviceListStrategy.CDI_ANNOTATIONS, DeviceListStrategy.CDI_CRI
IMEX = IMEX_CHANNEL.format(0)
VENDOR = "k8s.device-plugin.nvidia.com"
KEY = re.compile(r"cdi\.k8s\.io/nvidia-device-plugin_[0-9a-f]{32}")


def answer(handout: Handout, *ids: str, **fields: Any) -> api.ContainerAllocateResponse:
    """Return the answer of Allocate to a container with these device IDs."""
    return response.allocate(view(**fields), handout, ids)


def named(found: api.ContainerAllocateResponse) -> list[str]:
    """Return the CDI device names in the answer."""
    return [device.name for device in found.cdi_devices]


def annotated(found: api.ContainerAllocateResponse) -> tuple[str, str]:
    """Return the key and the value of the answer's only annotation."""
    (annotation,) = found.annotations.items()
    return annotation


def test_devices_by_cri() -> None:
    """With cdi-cri, the answer has the CDI device names and nothing else."""
    expected = api.ContainerAllocateResponse(
        cdi_devices=[api.CDIDevice(name=f"{VENDOR}/gpu={name}") for name in ("A", "M1")]
    )
    assert answer(Handout((CRI,)), "A::0", "M1::1", "A::1") == expected


def test_devices_by_annotation() -> None:
    """With cdi-annotations, the answer has one annotation with all devices, and nothing else."""
    found = answer(Handout((ANNOTATIONS,)), "A::0", "M1::1", "A::1")
    key, value = annotated(found)
    assert KEY.fullmatch(key)
    assert value == f"{VENDOR}/gpu=A,{VENDOR}/gpu=M1"
    assert found == api.ContainerAllocateResponse(annotations={key: value})


def test_devices_by_index() -> None:
    """With device ID strategy index, CDI device names are indices."""
    handout = Handout((CRI,), id_strategy=DeviceIdStrategy.INDEX)
    assert named(answer(handout, "B::0", "M0")) == [f"{VENDOR}/gpu=1", f"{VENDOR}/gpu=3:0"]


def test_the_kind_of_devices() -> None:
    """CDI names have the vendor and class of cdi-kind; those of features have its vendor."""
    handout = Handout((CRI, ANNOTATIONS), cdi_kind="example.com/card", features=("gds",))
    found = answer(handout, "C")
    assert named(found) == ["example.com/card=C", "example.com/gds=all"]
    assert annotated(found)[1] == "example.com/card=C,example.com/gds=all"


def test_the_prefix_of_annotations() -> None:
    """The annotation's key has the configured prefix, and at most Kubernetes' 63 characters."""
    key, _ = annotated(answer(Handout((ANNOTATIONS,), cdi_annotation_prefix="x.example/"), "C"))
    assert re.fullmatch(r"x\.example/nvidia-device-plugin_[0-9a-f]{32}", key)
    assert len(key.partition("/")[2]) <= 63


def test_the_key_of_an_annotation() -> None:
    """The annotation's key depends only on the devices, and differs for different devices."""
    handout = Handout((ANNOTATIONS,))
    requests = (["A::0"], ["B::0"], ["A::0", "B::0"], ["B::0", "A::0"], ["M0"])
    keys = [annotated(answer(handout, *ids))[0] for ids in requests]
    assert len(set(keys)) == len(requests)
    assert keys == [annotated(answer(handout, *ids))[0] for ids in requests]
    assert keys[0] == "cdi.k8s.io/nvidia-device-plugin_" + DIGEST_OF_A


DIGEST_OF_A = "0dc036bbd626fc3d63f9c0b604387111"


def test_all_strategies_together() -> None:
    """With all four strategies, the answer has the parts of each strategy."""
    found = answer(Handout((ENVVAR, CRI, MOUNTS, ANNOTATIONS)), "C")
    key, value = annotated(found)
    assert found == api.ContainerAllocateResponse(
        envs={"NVIDIA_VISIBLE_DEVICES": "C"},
        mounts=mounts("C"),
        annotations={key: value},
        cdi_devices=[api.CDIDevice(name=f"{VENDOR}/gpu=C")],
    )
    assert value == f"{VENDOR}/gpu=C"


@pytest.mark.parametrize("strategies", [(CRI,), (ANNOTATIONS,), (CRI, ANNOTATIONS)])
def test_with_cdi_alone_there_are_no_mounts_and_no_nodes(
    strategies: tuple[DeviceListStrategy, ...],
) -> None:
    """With CDI strategies alone, the answer has no mounts or device nodes, only features."""
    handout = Handout(
        strategies, pass_device_specs=True, features=("gds", "mofed"), imex_channels=(0,)
    )
    found = answer(handout, "A::0", nodes=("/dev/nvidiactl", IMEX))
    assert dict(found.envs) == {"NVIDIA_GDS": "enabled", "NVIDIA_MOFED": "enabled"}
    assert (list(found.mounts), list(found.devices)) == ([], [])


def test_with_envvar_beside_cdi_the_nodes_are_passed() -> None:
    """With envvar beside CDI, pass-device-specs still passes device nodes."""
    found = answer(Handout((CRI, ENVVAR), pass_device_specs=True), "A::0")
    assert [device.host_path for device in found.devices] == ["/dev/nvidia1"]


KINDS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "nobody knows": ((), ["gdrcopy", "gds", "mofed"]),
    "all there": (
        tuple(f"{VENDOR}/{name}" for name in ("gpu", "gds", "mofed", "gdrcopy")),
        ["gdrcopy", "gds", "mofed"],
    ),
    "one missing": (
        (f"{VENDOR}/gpu", f"{VENDOR}/mofed", f"{VENDOR}/gdrcopy"),
        ["gdrcopy", "mofed"],
    ),
    "none there": ((f"{VENDOR}/gpu",), []),
    "another vendor's": (("example.com/gds",), []),
}


@pytest.mark.parametrize(("kinds", "features"), KINDS.values(), ids=KINDS)
def test_features(kinds: tuple[str, ...], features: list[str]) -> None:
    """A feature without a CDI specification on the node is left out of the CDI names."""
    handout = Handout((CRI, ANNOTATIONS), features=("gdrcopy", "gds", "mofed"))
    found = answer(handout, "C", cdi_kinds=kinds)
    expected = [f"{VENDOR}/gpu=C", *(f"{VENDOR}/{feature}=all" for feature in features)]
    assert named(found) == expected
    assert annotated(found)[1] == ",".join(expected)
    enabled = dict.fromkeys(("NVIDIA_GDRCOPY", "NVIDIA_GDS", "NVIDIA_MOFED"), "enabled")
    assert dict(found.envs) == enabled


@pytest.mark.parametrize("there", [True, False], ids=["there", "missing"])
def test_a_channel(there: bool) -> None:  # noqa: FBT001 - a column of the table
    """An existing IMEX channel is one more CDI device, after the GPUs."""
    handout = Handout((CRI,), imex_channels=(0,), features=("gds",))
    expected = [f"{VENDOR}/gpu=C", f"{VENDOR}/imex-channel=0", f"{VENDOR}/gds=all"]
    if not there:
        del expected[1]
    assert named(answer(handout, "C", nodes=(IMEX,) if there else ())) == expected


def test_channels_that_the_specification_lacks() -> None:
    """Of several IMEX channels, only those with a CDI name are named."""
    handout = Handout((CRI,), imex_channels=(0, 3, 7))
    nodes = tuple(map(IMEX_CHANNEL.format, (0, 3, 7)))
    kinds = (f"{VENDOR}/gpu", f"{VENDOR}/imex-channel")
    found = answer(handout, "C", nodes=nodes, cdi_kinds=kinds, cdi_channels=("0", "7", "9"))
    expected = [f"{VENDOR}/gpu=C", f"{VENDOR}/imex-channel=0", f"{VENDOR}/imex-channel=7"]
    assert named(found) == expected
