"""The command `drill`."""

from pathlib import Path

import pytest

from simulator import drill
from simulator.node import Gpu, Live, LiveNode, Node, Xid, complete
from supervisor.cli import parser
from tests.unit.builders import gpu_uuid

NODE = complete(Node((Gpu(), Gpu(mig=("1g.10gb", "1g.10gb")))))


def after(folder: Path, *lines: str) -> Live:
    """Return the node after the command was run with each of *lines*."""
    live = LiveNode(folder)
    live.start(NODE)
    for line in lines:
        words = ["drill", *line.split(), f"--runtime-dir={folder}"]
        drill.run(parser("1.2.3").parse_args(words))
    return live.read()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["xid 79 --gpu 1"], Live(NODE, happened=1, xids=(Xid(1, gpu_uuid(1), 79),))),
        (["xid 31 --gpu 1 --mig 0"], Live(NODE, happened=1, xids=(Xid(1, gpu_uuid(1), 31, 0),))),
        (["lost --gpu 0"], Live(NODE, lost=frozenset({gpu_uuid(0)}))),
        (["lost --gpu 0", "recover --gpu 0"], Live(NODE)),
        (["remove --gpu 1"], Live(NODE, removed=frozenset({gpu_uuid(1)}))),
        (["remove --gpu 1", "add --gpu 1"], Live(NODE)),
    ],
    ids=["xid", "xid of an instance", "lost", "recover", "remove", "add"],
)
def test_drills(tmp_path: Path, lines: list[str], expected: Live) -> None:
    """Once the command returns, its fault is in the node."""
    assert after(tmp_path, *lines) == expected


def test_every_kind_of_drill_is_tested() -> None:
    """A new kind of drill needs a line in the table above."""
    assert set(drill.KINDS) == {"xid", "lost", "recover", "remove", "add"}
