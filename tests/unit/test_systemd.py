"""Messages to systemd, on a real datagram socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.systemd import Notifier

GUARD = 10


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Return systemd's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(GUARD)
        yield end


def environment(systemd: socket.socket, **more: str) -> dict[str, str]:
    """Return the environment of a service that systemd starts."""
    return {"NOTIFY_SOCKET": systemd.getsockname(), "LANG": "C", **more}


def heard(systemd: socket.socket, count: int) -> list[str]:
    """Return the next *count* messages; fail if there are more."""
    found = [systemd.recv(1000).decode() for _ in range(count)]
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)
    systemd.settimeout(GUARD)
    return found


def test_a_status_is_sent_once(systemd: socket.socket) -> None:
    """The status is sent when it changes, and READY=1 together with it."""
    notifier = Notifier(environment(systemd))
    for status, ready in (("looking", False), ("looking", False), ("serving", True)):
        notifier.tell(status, ready=ready)
    notifier.tell("serving", ready=True)
    assert heard(systemd, 2) == ["STATUS=looking", "READY=1\nSTATUS=serving"]


def test_the_watchdog_is_notified_each_time(systemd: socket.socket) -> None:
    """With a watchdog, each call sends WATCHDOG=1."""
    notifier = Notifier(environment(systemd, WATCHDOG_USEC="30000000"))
    for _ in range(2):
        notifier.tell("serving", ready=True)
    assert heard(systemd, 3) == ["WATCHDOG=1", "READY=1\nSTATUS=serving", "WATCHDOG=1"]


def test_the_end(systemd: socket.socket) -> None:
    """Stopping sends STOPPING=1."""
    Notifier(environment(systemd)).stopping()
    assert heard(systemd, 1) == ["STOPPING=1\nSTATUS=stopping"]


def test_an_abstract_socket() -> None:
    """An address that begins with @ is an abstract socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0gpu-sharing-test-notify")
        end.settimeout(GUARD)
        Notifier({"NOTIFY_SOCKET": "@gpu-sharing-test-notify"}).tell("x", ready=False)
        assert end.recv(100) == b"STATUS=x"


def test_children_do_not_inherit_the_variables(systemd: socket.socket) -> None:
    """The variables of systemd are removed from the environment, so that no child inherits them."""
    variables = environment(systemd, WATCHDOG_USEC="1")
    Notifier(variables)
    assert variables == {"LANG": "C"}


def test_without_systemd() -> None:
    """Without systemd, nothing is sent, and this is no error."""
    notifier = Notifier({})
    notifier.tell("serving", ready=True)
    notifier.stopping()


def test_a_systemd_that_does_not_listen(tmp_path: Path) -> None:
    """A message that systemd did not receive is sent again."""
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.tell("serving", ready=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        notifier.tell("serving", ready=True)
        end.settimeout(GUARD)
        assert end.recv(100) == b"READY=1\nSTATUS=serving"


def test_a_status_is_one_short_line(systemd: socket.socket) -> None:
    """A long reason with line breaks keeps systemd from neither the status nor the readiness."""
    Notifier(environment(systemd)).tell("x\nMAINPID=1\n" + "é" * 300_000, ready=True)
    message = systemd.recv(1 << 20)
    assert len(message) <= 4096
    assert message.decode().splitlines()[0] == "READY=1"
    assert message.decode().splitlines()[1].startswith(r"STATUS=x\nMAINPID=1\n")
    assert len(message.decode().splitlines()) == 2
