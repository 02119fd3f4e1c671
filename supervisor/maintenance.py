"""Handle the requests of operators: quiesce, resume and mark-healthy."""

import time
from collections import deque
from typing import Protocol

from loguru import logger
from msgspec.structs import replace

from proto.control import MarkHealthy, Stop, Unknown
from proto.reasons import Reason, ReasonKind
from proto.requests import Answer, Apply, Quiesce, Request, Resume
from proto.texts import NAME_LIMIT, shortened
from supervisor.children import Children
from supervisor.control_socket import Client
from supervisor.restart_policy import State
from supervisor.state import Served

PATIENCE = 10.0
"""Seconds to wait for a child process before a request is answered with an error."""

WAITING = 8
"""Most requests that wait for a process; each holds a descriptor."""

MONITOR = "monitor"

REASON = Reason(ReasonKind.MAINTENANCE)
"""Why devices are Unhealthy while the monitor is stopped."""


QUIESCED = (
    "stopped the health monitor: no process of the service uses the driver, and all devices are "
    "Unhealthy until `gpu-sharing-plugin resume`"
)
RESUMED = "starting the health monitor: devices are Healthy again as soon as it finds them healthy"
NOTHING_TO_RESUME = "nothing to do: the health monitor is not stopped"
ELSEWHERE = "cannot apply limits of MPS: only `gpu-sharing-plugin mps` keeps MPS daemons"
MARKED = "cleared the faults of {}: it is Healthy unless the next health check finds a fault"


class Operators(Protocol):
    """Handles the requests of operators for the supervisor's loop."""

    def end(self) -> None:
        """Refuse new requests, because the service is stopping."""

    def take(self, client: Client, request: Request, served: Served, children: Children) -> Served:
        """Start to handle *request*; return the new state of the service."""

    def marked(self, error: str) -> None:
        """Note that the monitor is done with MarkHealthy, or reports an *error*."""

    def go_on(self, children: Children, now: float) -> None:
        """Answer the clients whose request is done or has timed out."""


class Maintenance:
    """Holds the requests to the plugin that are not answered yet."""

    def __init__(self) -> None:
        self._quiescing: list[tuple[Client, float]] = []
        self._marking: deque[tuple[Client, str]] = deque()
        self._ended = False

    def end(self) -> None:
        """Refuse new requests, because the service is stopping."""
        self._ended = True

    def take(self, client: Client, request: Request, served: Served, children: Children) -> Served:
        """Start to handle *request*; return the new state of the service."""
        if self._ended:
            client.answer(Answer("cannot accept the request: the service is stopping"))
            return served
        if len(self._quiescing) + len(self._marking) >= WAITING and not isinstance(request, Resume):
            client.answer(Answer("cannot accept the request: too many others wait; try again"))
            return served
        logger.info("received a request", request=type(request).__name__)
        match request:
            case Quiesce():
                unknown = Unknown(REASON, children.epoch(MONITOR))
                children.tell(unknown)
                children.unwant(MONITOR, Stop())
                self._quiescing.append((client, time.monotonic() + PATIENCE))
                return replace(served, quiesced=True, unknown=unknown, lost=None)
            case Resume():
                while self._quiescing:
                    error = "cannot finish quiesce: resume was requested meanwhile"
                    self._quiescing.pop()[0].answer(Answer(error))
                children.want(children.spec(MONITOR))
                done = RESUMED if served.quiesced else NOTHING_TO_RESUME
                client.answer(Answer(done=done))
                return replace(served, quiesced=False)
            case MarkHealthy():
                self._mark(client, request, children)
                return served
            case Apply():
                client.answer(Answer(ELSEWHERE))
                return served

    def _mark(self, client: Client, request: MarkHealthy, children: Children) -> None:
        if children.state(MONITOR) is not State.RUNNING:
            state = children.state(MONITOR).value
            error = f"cannot mark a device healthy: the monitor is {state}; run resume, or wait"
            client.answer(Answer(error))
            return
        self._marking.append((client, request.device))
        children.tell(request)

    def marked(self, error: str) -> None:
        """Answer the client that has waited longest: the monitor is done, or reports an *error*."""
        if self._marking:
            client, device = self._marking.popleft()
            client.answer(
                Answer(error, "" if error else MARKED.format(shortened(device, NAME_LIMIT)))
            )

    def go_on(self, children: Children, now: float) -> None:
        """Answer the clients whose request is done or has timed out."""
        waiting, self._quiescing = self._quiescing, []
        for client, deadline in waiting:
            if children.gone(MONITOR):
                client.answer(Answer(done=QUIESCED))
            elif now >= deadline:
                client.answer(Answer("cannot stop the monitor: it hangs in a driver call"))
            else:
                self._quiescing.append((client, deadline))
        if children.state(MONITOR) is not State.RUNNING:
            while self._marking:
                error = "cannot mark a device healthy: the monitor ended; try again when it runs"
                self._marking.popleft()[0].answer(Answer(error))
