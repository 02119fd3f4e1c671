"""What a keeper sends to an MPS daemon, and what the answers mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.mps import MpsClient, MpsShare, ServerStatus
from proto.texts import NAME_LIMIT
from supervisor.mps import commands
from supervisor.mps.commands import ClientLimits, Readings

UUID = "GPU-00000000-0000-0000-0000-000000000000"
PS = """\
PID       ID        SERVER         DEVICE                    NAMESPACE      COMMAND
4711      1         4700           GPU-00000000-0000-0000    4026531836     python3
42        2         4700           GPU-00000000-0000-0000    4026531836     /opt/my program -x
42        3         4700           GPU-00000000-0000-0000    4026531836     /opt/my program -x
"""


def test_a_daemon_has_limits_only_for_single_replicas() -> None:
    """If containers may have several replicas, each container brings its own limits."""
    assert commands.limits(MpsShare(1500, 25)) == ClientLimits(1500, 25)
    assert commands.limits(MpsShare(1500, 25, single=False)) == ClientLimits()


def test_limits_are_sent_by_uuid() -> None:
    """The percentage is the daemon's, the memory is of a device; an open limit is not sent."""
    assert commands.settings(ClientLimits(1500, 25), UUID) == (
        "set_default_active_thread_percentage 25",
        f"set_default_device_pinned_mem_limit {UUID} 1500M",
    )
    assert commands.settings(ClientLimits(), UUID) == ()


@pytest.mark.parametrize(
    ("limits", "readings"),
    [
        (ClientLimits(1500, 25), Readings("25.0", "1G")),
        (ClientLimits(81559, 100), Readings("100.0", "79G")),
        (ClientLimits(1023, 1), Readings("1.0", "1023M")),
        (ClientLimits(), Readings("100.0", "")),
    ],
)
def test_how_a_daemon_writes_limits(limits: ClientLimits, readings: Readings) -> None:
    """Hardware has shown: from 1 GiB on, memory reads in whole GiB."""
    assert commands.readings(limits) == readings
    assert commands.difference(readings, limits) == ""


def test_wrong_limits_are_named() -> None:
    """A difference says what was read and what should have been."""
    wanted = ClientLimits(1500, 25)
    percentage = commands.difference(Readings("50.0", "1G"), wanted)
    assert percentage == 'its thread percentage is "50.0" instead of 25.0'
    memory = commands.difference(Readings("25.0", ""), wanted)
    assert memory == 'its memory limit is "" instead of "1G"'


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("", 0), ("4711\n", 4711), ("1\n2\n", 1), ('Unknown command "x"\n', None), ("-1", None)],
)
def test_the_list_of_servers(answer: str, expected: int | None) -> None:
    """A daemon has one server at a time, or none; anything else is no answer."""
    assert commands.server(answer) == expected


def test_the_status_of_a_server() -> None:
    """A server that is gone has none."""
    assert commands.status("FAULT\n") is ServerStatus.FAULT
    assert commands.status("Server 1 not found\n") is None


def test_clients_are_processes() -> None:
    """Each process is there once, however many contexts it has, and keeps its whole command."""
    assert commands.clients(PS) == (
        MpsClient(42, "/opt/my program -x"),
        MpsClient(4711, "python3"),
    )
    assert commands.clients("Server not found\n") == commands.clients("") == ()


def test_a_long_command_is_shortened() -> None:
    """It goes into details, messages and pages, and a client chooses it."""
    title, first = PS.splitlines()[:2]
    (client,) = commands.clients(f"{title}\n{first.rpartition(' ')[0]} {'x' * 5000}\n") or ()
    assert len(client.command) <= NAME_LIMIT


def test_a_client_counts_whatever_is_known_of_it() -> None:
    """A daemon that may not look at a client still tells its PID; other answers are none."""
    title, first = PS.splitlines()[:2]
    for line in (first.rpartition(" ")[0], "4711", "4711      1         4700"):
        assert commands.clients(f"{title}\n{line}\n") == (MpsClient(4711),)
    assert commands.clients('Unknown command "ps"\n') is None
    assert commands.clients(f"{PS}oh\n") is None


def test_many_clients_are_not_all_named() -> None:
    """A detail names eight of them."""
    many = [MpsClient(pid) for pid in range(1, 12)]
    assert commands.named(many) == "1, 2, 3, 4, 5, 6, 7, 8 and 3 more"


@given(st.text())
def test_any_answer_can_be_read(answer: str) -> None:
    """No answer makes the keeper fail."""
    commands.server(answer)
    commands.status(answer)
    commands.clients(answer)
