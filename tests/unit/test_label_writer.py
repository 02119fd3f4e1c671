"""What the node's labels should be, from the supervisor's orders and the health of the devices."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from proto.advertising import Advertising
from proto.control import LabelNode, NodeLabels
from proto.fitness import LastWord
from proto.labels import LabelOutput, LabelSettings
from proto.messages import DeviceHealth, Inventory, NodeState
from proto.pace import Pace
from proto.reasons import Reason, ReasonKind
from supervisor.labels.schedule import Content
from supervisor.labels.writer import LabelWriter, OutputError
from tests.unit.builders import gpu, inventory

SETTINGS = LabelSettings("bus", 10.0, LabelOutput.FILE)
OFTEN = Pace(0.0, 0.0)
COUNT, HEALTHY = "nvidia.com/gpu.count", "nvidia.com/gpu.healthy-count"
TWO = inventory(gpu(0), gpu(1))


class Put:
    """An output that keeps what was put, and may fail."""

    def __init__(self) -> None:
        self.put: list[Content] = []
        self.problem = ""

    async def __call__(self, content: Content) -> bool:
        """Keep *content*, or fail."""
        if self.problem:
            raise OutputError(self.problem)
        self.put.append(content)
        return True


def run(act: Callable[[LabelWriter, Put], None], settings: LabelSettings = SETTINGS) -> Put:
    """Let *act* tell a keeper what there is, and return the output after the keeper's turn."""
    put = Put()

    async def story() -> None:
        keeper = LabelWriter(settings, OFTEN, put, lambda _: None)
        act(keeper, put)
        task = asyncio.create_task(keeper.run())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(story())
    return put


def order(found: Inventory, loaded: float = 0.0) -> LabelNode:
    """Return the supervisor's order for this inventory."""
    return LabelNode(found, Advertising(), loaded)


def state(found: Inventory, *bad: str) -> LastWord:
    """Return the monitor's last word, in which the GPUs *bad* have a fault."""
    fault = (Reason(ReasonKind.XID, "79"),)
    health = tuple(DeviceHealth(g.uuid, fault if g.uuid in bad else ()) for g in found.gpus)
    return LastWord(0.0).after(NodeState(epoch=1, sequence=1, inventory=found, health=health), 1e12)


def test_nothing_is_written_before_the_driver_answers() -> None:
    """An inventory without a driver version says less than what may be on the node."""
    silent = replace(TWO, driver_version="")
    assert run(lambda keeper, _: keeper.on_order(order(silent))).put == []


def test_only_the_newest_order_counts() -> None:
    """Several orders before the keeper's turn are one write."""

    def act(keeper: LabelWriter, _: Put) -> None:
        keeper.on_order(order(inventory(gpu(0))))
        keeper.on_order(order(TWO))

    (content,) = run(act).put
    assert content.labels[COUNT] == "2"
    assert content.gpus == ()
    assert HEALTHY not in content.labels


def test_the_facts_of_each_gpu_are_for_nfd_only() -> None:
    """Only a NodeFeature object has them."""
    settings = replace(SETTINGS, output=LabelOutput.NODEFEATURE)
    (content,) = run(lambda keeper, _: keeper.on_order(order(TWO)), settings).put
    assert [found["index"] for found in content.gpus] == ["0", "1"]


def test_health_is_told_when_it_is_known() -> None:
    """With the option nothing is written before the health of each GPU is known."""
    settings = replace(SETTINGS, health=True)

    def before(keeper: LabelWriter, _: Put) -> None:
        keeper.on_order(order(TWO))
        keeper.on_word(state(inventory(gpu(0))))

    def after(keeper: LabelWriter, put: Put) -> None:
        before(keeper, put)
        keeper.on_word(state(TWO, TWO.gpus[1].uuid))

    assert run(before, settings).put == []
    (content,) = run(after, settings).put
    assert (content.labels[COUNT], content.labels[HEALTHY]) == ("2", "1")


@pytest.mark.parametrize(("wanted", "expected"), [(True, "123"), (False, None)])
def test_a_timestamp_only_if_it_is_wanted(*, wanted: bool, expected: str | None) -> None:
    """The time when the settings were loaded is a label only if the file says so."""
    settings = replace(SETTINGS, timestamp=wanted)
    (content,) = run(lambda keeper, _: keeper.on_order(order(TWO, 123.9)), settings).put
    assert content.labels.get("nvidia.com/gfd.timestamp") == expected


def test_the_kind_of_machine_is_read_from_its_file(tmp_path: Path) -> None:
    """A file that is missing gives `unknown`."""
    file = tmp_path / "machine"
    settings = replace(SETTINGS, machine_type_file=str(file))
    (unknown,) = run(lambda keeper, _: keeper.on_order(order(TWO)), settings).put
    file.write_text("DGX H100\n")
    (known,) = run(lambda keeper, _: keeper.on_order(order(TWO)), settings).put
    machines = [content.labels["nvidia.com/gpu.machine"] for content in (unknown, known)]
    assert machines == ["unknown", "DGX-H100"]


def test_the_supervisor_is_told_of_each_attempt() -> None:
    """The report has the reason of a failure; after a success it has none."""
    told: list[NodeLabels] = []

    async def story() -> None:
        put = Put()
        put.problem = "no right"
        keeper = LabelWriter(SETTINGS, OFTEN, put, told.append)
        keeper.on_order(order(TWO))
        task = asyncio.create_task(keeper.run())
        await asyncio.sleep(0)
        put.problem = ""
        await keeper.write_again()  # nothing was ever written
        task.cancel()
        assert put.put == []

    asyncio.run(story())
    assert told == [NodeLabels("file", "no right")]
