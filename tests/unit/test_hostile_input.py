"""Hostile input, except for configuration files."""

import re
import socket
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from health import cdi_spec, device_nodes
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
"""Deeply nested MessagePack maps."""


@pytest.mark.parametrize(
    ("path", "value"),
    [("service.devicePluginPath", "/a\udcff"), ("flags.nvidiaDriverRoot", "\udcff")],
)
def test_a_flag_that_is_not_utf_8_is_refused(path: str, value: str) -> None:
    """A flag that is not UTF-8 is refused, and the error is ASCII text."""
    assert message({path: value}, {}).encode().isascii()


def test_an_error_has_no_control_characters() -> None:
    """An error shows control characters of a bad value escaped."""
    text = message({"service.resourceConfig": "gpu:\x1b[31m:2"}, {})
    assert text.isprintable()
    assert r"\x1b[31m" in text


def test_an_error_shortens_a_long_value() -> None:
    """An error shows only the beginning of a very long value."""
    text = message({"service.cdiSpecDir": "/" + "x" * 4000}, {})
    assert len(text) < 1200
    assert text.endswith("write at most 255 bytes between two slashes")


@pytest.mark.parametrize("time", ["9" * 400, f"{'9' * 307}h", "169h", "604801"])
def test_a_time_that_is_too_long_is_refused(tmp_path: Path, time: str) -> None:
    """A time over 168h is refused, and the error names its key."""
    path = tmp_path / "config.yaml"
    path.write_text(f'health: {{staleAfter: "{time}"}}')
    text = message({"service.configFile": str(path)}, {})
    assert 'health.staleAfter: "' in text
    assert text.endswith("is too long; write at most 168h")


@pytest.mark.parametrize("flag", ["runtimeDir", "stateDir", "devicePluginPath"])
def test_an_empty_path_is_refused(flag: str) -> None:
    """An empty folder path is refused: it would be the current folder."""
    assert message({f"service.{flag}": ""}, {}).endswith('="": write a path')


def test_a_bad_message_on_the_bus_is_dropped() -> None:
    """A deeply nested message on the bus is dropped without an error."""
    assert messages.decode(DEEP) is None


@pytest.mark.parametrize("data", [b"\xc1", b"\x80", DEEP[:LIMIT], b"\x81\xa4type\xa4Nope"])
def test_a_bad_message_closes_the_channel(data: bytes) -> None:
    """A bad message from a child is like the end of its channel: the supervisor survives."""
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
    """A bad line of mig-minors is ignored, and the other lines are read."""
    path = tmp_path / "driver/nvidia-caps/mig-minors"
    path.parent.mkdir(parents=True)
    path.write_bytes(line + b"\ngpu0/gi7/access 3\n")
    assert device_nodes.capabilities(tmp_path) == {(0, 7, None): 3}


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"kind": "a/b"}\xff', b"9" * 5000, b"[]"])
def test_an_odd_specification_is_refused(content: bytes) -> None:
    """Output of the toolkit that is not a CDI specification is refused."""
    with pytest.raises(cdi_spec.CdiError, match="cannot "):
        cdi_spec.check(content, "a/b")


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff"])
def test_an_unreadable_simulated_node_is_an_error(tmp_path: Path, content: bytes) -> None:
    """A simulated node's file that cannot be read is an error that says so."""
    node = LiveNode(tmp_path)
    node.path.write_bytes(content)
    with pytest.raises(NodeError, match="cannot read the simulated node"):
        node.read()


@pytest.mark.parametrize("form", [logs.Format.TEXT, logs.Format.JSON])
def test_no_name_can_forge_a_log_line(capfd: pytest.CaptureFixture[str], form: logs.Format) -> None:
    """A name with line breaks or control characters stays in one printable log line."""
    logs.set_up("worker", form, logs.Level.INFO)
    name = 'a\nb\rc\x00\x1b[31m\u2028\x85 uuid="x" \udcff'
    logger.info("allocated", uuid=name, other=[name])
    logger.info(name)
    logger.remove()
    lines = capfd.readouterr().err.removesuffix("\n").split("\n")
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_a_pattern_of_many_stars_is_matched_quickly() -> None:
    """A pattern of many stars cannot block the supervisor; backtracking would take years."""
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
    """A star matches any text, including none, and parts of a pattern never overlap."""
    assert matches(pattern, text) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_stars_match_as_in_a_regular_expression(pattern: str, text: str) -> None:
    """A pattern with stars matches the same texts as its regular expression."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text)
    assert matches(pattern, text) is bool(expected)


def test_unknown_ids_are_not_cached() -> None:
    """Unknown device IDs in requests do not fill the allocator's cache."""
    allocator = Allocator(known({"a": 1, "b": 1}), AllocationPolicy.DISTRIBUTED, Topology.of(()))
    tracemalloc.start()
    for number in range(20):
        required = [f"{number}-{place}-{'x' * 100}" for place in range(1000)]
        assert allocator.preferred(["a", "b"], ["b", *required], 1) == ["b"]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1 << 20


def test_a_refusal_of_a_huge_id_is_short() -> None:
    """The error for a huge device ID is short."""
    with pytest.raises(RefusedError) as error:
        allocate(view({"a": 1}), Handout(), ["x" * 1_000_000])
    assert len(str(error.value)) < 200
