"""How many requests of operators may wait for an answer at once."""

import contextlib
import socket
from typing import cast

from proto.channel import Channel
from proto.control import MarkHealthy
from proto.requests import Quiesce, Resume, decode_answer
from supervisor.child import Process, Spec
from supervisor.children import Children
from supervisor.control_socket import Client
from supervisor.maintenance import MONITOR, WAITING, Maintenance
from supervisor.restart_policy import Limits
from supervisor.state import Served


class Silent:
    """A monitor that runs and answers nothing."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.pid = 0


def test_a_flood_of_requests_holds_a_bounded_number_of_connections() -> None:
    """When so many requests wait, the next is refused; `resume` is always accepted."""
    with contextlib.ExitStack() as stack:
        ours, theirs = Channel.pair()
        stack.callback(ours.close)
        stack.callback(theirs.close)
        children = Children(lambda *_: cast("Process", Silent(ours)), Limits(), lambda: None)
        children.want(Spec(MONITOR, "none", None, takes=(MarkHealthy,), essential=True))
        children.start(MONITOR)
        children.heard(MONITOR, ready=True)
        maintenance, served = Maintenance(), Served()

        def ask(request: MarkHealthy | Quiesce | Resume) -> str:
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(near.close)
            stack.callback(far.close)
            maintenance.take(Client(near), request, served, children)
            far.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                return decode_answer(far.recv(1000)).error
            return "waits"

        assert [ask(MarkHealthy("0")) for _ in range(WAITING)] == ["waits"] * WAITING
        for more in (MarkHealthy("0"), Quiesce()):
            assert "too many others wait" in ask(more)
        assert ask(Resume()) == ""
