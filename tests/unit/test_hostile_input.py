"""Input that is made to break its reader, outside the configuration's files."""

import re
import socket
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from health import cdi, device_nodes
from proto import messages
from proto.channel import Channel, ClosedError
from proto.requests import LIMIT
from proto.worker import AllocationPolicy, Handout
from simulator.live_node import LiveNode
from simulator.node import NodeError
from supervisor import logs
from supervisor.config.naming import matches
from tests.unit.builders import known, view
from tests.unit.refusal import message
from workers.allocation import Allocator
from workers.response import RefusedError, allocate
from workers.topology import Topology

DEEP = b"\x81\xa1a" * 100_000
"""Maps in maps, in MessagePack."""


@pytest.mark.parametrize(
    ("path", "value"),
    [("service.devicePluginPath", "/a\udcff"), ("flags.nvidiaDriverRoot", "\udcff")],
)
def test_a_flag_that_is_no_text_is_refused(path: str, value: str) -> None:
    """Bytes that are no UTF-8 are refused in one line, which can be printed."""
    assert message({path: value}, {}).encode().isascii()


def test_a_message_cannot_command_a_terminal() -> None:
    """Control characters in what the user wrote are shown, not sent."""
    text = message({"service.resourceConfig": "gpu:\x1b[31m:2"}, {})
    assert text.isprintable()
    assert r"\x1b[31m" in text


def test_a_message_has_an_end() -> None:
    """Of a value that is endless there is as much as it takes to find it."""
    text = message({"service.metricsAddress": "x" * 300_000}, {})
    assert len(text) < 1200
    assert text.endswith("write HOST:PORT, or :PORT")


@pytest.mark.parametrize("time", ["9" * 400, f"{'9' * 307}h", "169h", "604801"])
def test_a_time_has_to_end(tmp_path: Path, time: str) -> None:
    """A time that no wait can take, or that would switch a guard off, is refused by its key."""
    path = tmp_path / "config.yaml"
    path.write_text(f'health: {{staleAfter: "{time}"}}')
    text = message({"service.configFile": str(path)}, {})
    assert 'health.staleAfter: "' in text
    assert text.endswith("is too long; write at most 168h")


@pytest.mark.parametrize("flag", ["runtimeDir", "stateDir", "devicePluginPath"])
def test_a_folder_has_a_name(flag: str) -> None:
    """An empty path would be wherever the service was started."""
    assert message({f"service.{flag}": ""}, {}).endswith('="": write a path')


def test_nonsense_on_the_bus_is_no_message() -> None:
    """What cannot be read is left out, however deep it is."""
    assert messages.decode(DEEP) is None


@pytest.mark.parametrize("data", [b"\xc1", b"\x80", DEEP[:LIMIT], b"\x81\xa4type\xa4Nope"])
def test_nonsense_on_the_channel_is_its_end(data: bytes) -> None:
    """A child that talks nonsense is no child of ours any more, and cannot end the supervisor."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours)
    theirs.send(data)
    with pytest.raises(ClosedError):
        channel.receive()
    channel.close()
    theirs.close()


@pytest.mark.parametrize(
    "line", [b"gpu0/gi1/access " + b"9" * 5000, b"\xff\xfe", "gpu٣/gi1/access 4".encode()]
)
def test_an_odd_line_hides_no_capability(tmp_path: Path, line: bytes) -> None:
    """A line of mig-minors that makes no sense is passed over."""
    path = tmp_path / "driver/nvidia-caps/mig-minors"
    path.parent.mkdir(parents=True)
    path.write_bytes(line + b"\ngpu0/gi7/access 3\n")
    assert device_nodes.capabilities(tmp_path) == {(0, 7, None): 3}


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"kind": "a/b"}\xff', b"9" * 5000, b"[]"])
def test_an_odd_specification_is_refused(content: bytes) -> None:
    """What the tool writes is taken as a specification or refused, and nothing else."""
    with pytest.raises(cdi.CdiError, match="cannot "):
        cdi.check(content, "a/b")


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff"])
def test_a_simulated_node_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    """The file of another version, or of nobody, is told of by name."""
    node = LiveNode(tmp_path)
    node.path.write_bytes(content)
    with pytest.raises(NodeError, match="cannot read the simulated node"):
        node.read()


@pytest.mark.parametrize("form", [logs.Format.TEXT, logs.Format.JSON])
def test_no_name_can_forge_a_log_line(capfd: pytest.CaptureFixture[str], form: logs.Format) -> None:
    """Whatever a name holds: a line is one line, and has no control characters."""
    logs.set_up("worker", form, logs.Level.INFO)
    name = 'a\nb\rc\x00\x1b[31m\u2028\x85 uuid="x" \udcff'
    logger.info("allocated", uuid=name, other=[name])
    logger.info(name)
    logger.remove()
    lines = capfd.readouterr().err.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_a_pattern_of_many_stars_is_matched_in_no_time() -> None:
    """A pattern cannot hold the supervisor up: a search that goes back would take years here."""
    before = time.process_time()
    assert not matches("*A" * 30, "NVIDIA " + "A" * 60 + "!")
    assert time.process_time() - before < 1


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*ab*ab", "abab", True),
        ("*ab*ab", "ab", False),
        ("a**b", "ab", True),
        ("", "", True),
        ("", "a", False),
        ("*\n*", "a\nb", True),
    ],
)
def test_a_star_stands_for_anything(pattern: str, text: str, *, expected: bool) -> None:
    """A star stands for any text, also none, and nothing stands for two parts at once."""
    assert matches(pattern, text) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_stars_match_as_in_a_regular_expression(pattern: str, text: str) -> None:
    """The linear search finds what a regular expression does."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text)
    assert matches(pattern, text) is bool(expected)


def test_unknown_ids_are_not_kept() -> None:
    """What a caller asks for and nobody has is not remembered with the answer."""
    allocator = Allocator(known({"a": 1, "b": 1}), AllocationPolicy.DISTRIBUTED, Topology.of(()))
    tracemalloc.start()
    for number in range(20):
        required = [f"{number}-{place}-{'x' * 100}" for place in range(1000)]
        assert allocator.preferred(["a", "b"], ["b", *required], 1) == ["b"]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1 << 20


def test_a_refusal_of_a_huge_id_is_short() -> None:
    """An id of megabytes does not come back as an error of megabytes."""
    with pytest.raises(RefusedError) as error:
        allocate(view({"a": 1}), Handout(), ["x" * 1_000_000])
    assert len(str(error.value)) < 200
