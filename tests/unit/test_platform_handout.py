"""What containers get on each platform, against what NVIDIA's container toolkit accepts there.

Source: the modes nvml, csv and wsl of the toolkit v1.20, in its package nvcdi. With one GPU, csv
accepts `0` and `all`; with more, indices and UUIDs. In CDI specifications, csv has names for
indices only, and wsl has one device `all`.
"""

import itertools
from dataclasses import dataclass

import pytest

from health import cdi_spec, platform
from health.platform import NOTHING, Signs
from proto.messages import Gpu, Inventory
from proto.names import nodes_of
from proto.worker import CDI_STRATEGIES, DeviceIdStrategy, DeviceListStrategy, Handout
from supervisor.config.file_schema import Pattern
from supervisor.config.sharing import Share
from supervisor.plan import Rules, plan
from tests.unit.builders import gpu, gpu_uuid
from workers import response
from workers.devices import View, replicas

BARE = "54d0709b-558d-5a59-9c65-0c5fc14a2000"
ORIN = gpu(0, uuid=BARE, name="Orin (nvgpu)", pci_bus_id="", minor=None, integrated=True)
THOR = gpu(0, name="NVIDIA Thor", integrated=True)
BLIND = gpu(0, uuid="tegra", name="tegra", pci_bus_id="", minor=None, integrated=True)
CARD = gpu(1, name="NVIDIA RTX A6000")
TEGRA = Signs(tegra="/etc/nv_tegra_release", nvml="libnvidia-ml.so.1")

ON_CHIP = Pattern("Orin*", "igpu")


@dataclass(frozen=True)
class Node:
    """The GPUs of a node, and what the toolkit accepts there."""

    signs: Signs
    gpus: tuple[Gpu, ...]
    accepted: frozenset[str]
    """In the environment and as mounts."""
    cdi: dict[str, frozenset[str]]
    """Names in the specification that it writes, by the ID strategy."""


def either(*names: str) -> dict[str, frozenset[str]]:
    """Return these CDI names for both ID strategies."""
    return dict.fromkeys(DeviceIdStrategy, frozenset(names))


NODES = {
    "two cards": Node(
        NOTHING,
        (gpu(0), gpu(1)),
        frozenset({gpu_uuid(0), gpu_uuid(1), "0", "1", "all"}),
        {
            DeviceIdStrategy.UUID: frozenset({gpu_uuid(0), gpu_uuid(1)}),
            DeviceIdStrategy.INDEX: frozenset({"0", "1"}),
        },
    ),
    "Orin": Node(TEGRA, (ORIN,), frozenset({"0", "all"}), either("0", "all")),
    "Thor": Node(TEGRA, (THOR,), frozenset({"0", "all"}), either("0", "all")),
    "a Tegra without NVML": Node(
        Signs(tegra="x"), (BLIND,), frozenset({"0", "all"}), either("0", "all")
    ),
    "IGX Orin with a card": Node(
        TEGRA,
        (ORIN, CARD),
        frozenset({"0", "1", BARE, CARD.uuid, "all"}),
        either("0", "1", "all"),
    ),
    "WSL2": Node(
        Signs("/usr/lib/wsl/lib/libdxcore.so"),
        (gpu(0, uuid="all", minor=None),),
        frozenset({"all"}),
        either("all"),
    ),
}


def inventory(node: Node) -> Inventory:
    """Return what the monitor reports of the *node*."""
    return Inventory("580.95.05", platform.named(node.signs, node.gpus))


def handed_out(node: Node, handout: Handout, count: int = 1) -> list[set[str]]:
    """Return the IDs that a container gets of each device of *node*, in each way, by one answer."""
    name = "nvidia.com/gpu"
    rules = Rules(shares={name: (Share(name, count),)} if count > 1 else {})
    (resource,) = plan(rules, inventory(node)).resources
    view = View(name, replicas(resource), {})
    found = []
    for device in resource.devices:
        ids = [r.id for r in view.replicas.values() if r.uuid == device.uuid]
        answer = response.allocate(view, handout, ids)
        given = {answer.envs["NVIDIA_VISIBLE_DEVICES"]} if answer.envs else set()
        given |= {mount.container_path for mount in answer.mounts}
        given |= {device.name for device in answer.cdi_devices} | {*answer.annotations.values()}
        found.append(
            {text.rpartition("=")[2].rpartition("/")[2] for text in given}
            - {"nvidia-container-devices"}
        )
    return found


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(
    ("name", "way", "ids"), [*itertools.product(NODES, DeviceListStrategy, DeviceIdStrategy)]
)
def test_the_toolkit_accepts_each_id(
    name: str, way: DeviceListStrategy, ids: DeviceIdStrategy, replicas: int
) -> None:
    """By each list strategy and ID strategy, a container gets one ID that the toolkit accepts, for
    each device another one.
    """
    node = NODES[name]
    accepted = node.cdi[ids] if way in CDI_STRATEGIES else node.accepted
    found = handed_out(node, Handout((way,), ids), replicas)
    assert all(len(given) == 1 and given <= accepted for given in found)
    assert len(set.union(*found)) == len(found) == len(node.gpus)


@pytest.mark.parametrize(("name", "ids"), [*itertools.product(NODES, DeviceIdStrategy)])
def test_the_specification_has_each_name(name: str, ids: DeviceIdStrategy) -> None:
    """The monitor looks for the CDI names that containers get, and the toolkit writes them."""
    node = NODES[name]
    wanted = cdi_spec.wanted(inventory(node).gpus, ids, whole=True)
    assert not cdi_spec.lacks(wanted, node.cdi[ids])
    by_cri = Handout((DeviceListStrategy.CDI_CRI,), ids)
    assert [{*gpu.names} for gpu in wanted] == handed_out(node, by_cri)


@pytest.mark.parametrize(
    ("patterns", "integrated", "card"),
    [
        ((), "nvidia.com/gpu", "nvidia.com/gpu"),
        ((Pattern("tegra", "igpu"),), "nvidia.com/igpu", "nvidia.com/gpu"),
        (
            (Pattern("Orin*", "igpu"), Pattern("*A6000", "card")),
            "nvidia.com/igpu",
            "nvidia.com/card",
        ),
        ((Pattern("*A6000", "card"), Pattern("*", "any")), "nvidia.com/any", "nvidia.com/card"),
    ],
)
def test_patterns_tell_an_integrated_gpu_from_a_card(
    patterns: tuple[Pattern, ...], integrated: str, card: str
) -> None:
    """Patterns match the model, and `tegra` matches an integrated GPU of any model."""
    node = inventory(NODES["IGX Orin with a card"])
    resources = plan(Rules(gpus=patterns), node).resources
    names = {device.uuid: r.resource for r in resources for device in r.devices}
    assert names == {BARE: integrated, CARD.uuid: card}


def test_the_device_nodes() -> None:
    """A container gets /dev/dxg on WSL2, and no node of an integrated GPU: its files name those."""
    found = {name: [nodes_of(gpu) for gpu in inventory(node).gpus] for name, node in NODES.items()}
    assert found == {
        "two cards": [("/dev/nvidia0",), ("/dev/nvidia1",)],
        "Orin": [()],
        "Thor": [()],
        "a Tegra without NVML": [()],
        "IGX Orin with a card": [(), ("/dev/nvidia1",)],
        "WSL2": [("/dev/dxg",)],
    }
