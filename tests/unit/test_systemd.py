"""What systemd is told, on a real datagram socket as systemd has one."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.systemd import Notifier

GUARD = 10


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Return systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(GUARD)
        yield end


def environment(systemd: socket.socket, **more: str) -> dict[str, str]:
    """Return what a service is started with."""
    return {"NOTIFY_SOCKET": systemd.getsockname(), "LANG": "C", **more}


def heard(systemd: socket.socket, count: int) -> list[str]:
    """Return the next *count* messages, and make sure that there is no other."""
    found = [systemd.recv(1000).decode() for _ in range(count)]
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)
    systemd.settimeout(GUARD)
    return found


def test_what_is_new_is_told_once(systemd: socket.socket) -> None:
    """The status is told when it changes, and that all is ready with it."""
    notifier = Notifier(environment(systemd))
    for status, ready in (("looking", False), ("looking", False), ("serving", True)):
        notifier.tell(status, ready=ready)
    notifier.tell("serving", ready=True)
    assert heard(systemd, 2) == ["STATUS=looking", "READY=1\nSTATUS=serving"]


def test_the_watchdog_hears_of_us_each_time(systemd: socket.socket) -> None:
    """Where systemd watches, each telling is a sign of life."""
    notifier = Notifier(environment(systemd, WATCHDOG_USEC="30000000"))
    for _ in range(2):
        notifier.tell("serving", ready=True)
    assert heard(systemd, 3) == ["WATCHDOG=1", "READY=1\nSTATUS=serving", "WATCHDOG=1"]


def test_the_end(systemd: socket.socket) -> None:
    """Stopping is told."""
    Notifier(environment(systemd)).stopping()
    assert heard(systemd, 1) == ["STOPPING=1\nSTATUS=stopping"]


def test_an_abstract_socket() -> None:
    """An address that begins with @ is one without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0gpu-sharing-test-notify")
        end.settimeout(GUARD)
        Notifier({"NOTIFY_SOCKET": "@gpu-sharing-test-notify"}).tell("x", ready=False)
        assert end.recv(100) == b"STATUS=x"


def test_children_are_not_taken_for_us(systemd: socket.socket) -> None:
    """The variables are taken out of the environment, so that no child inherits them."""
    variables = environment(systemd, WATCHDOG_USEC="1")
    Notifier(variables)
    assert variables == {"LANG": "C"}


def test_without_systemd() -> None:
    """Whoever was not started by systemd says nothing, and it is no error."""
    notifier = Notifier({})
    notifier.tell("serving", ready=True)
    notifier.stopping()


def test_a_systemd_that_does_not_listen(tmp_path: Path) -> None:
    """An address where nobody listens costs nothing, and what was not taken is told again."""
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.tell("serving", ready=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        notifier.tell("serving", ready=True)
        end.settimeout(GUARD)
        assert end.recv(100) == b"READY=1\nSTATUS=serving"
