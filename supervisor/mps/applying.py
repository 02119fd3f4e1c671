"""Handle the requests of operators to the tree of the MPS daemons."""

from loguru import logger
from msgspec.structs import replace

from proto.control import ApplyNow, MarkHealthy
from proto.requests import Answer, Apply, Quiesce, Request, Resume
from supervisor.children import Children
from supervisor.control_socket import Client
from supervisor.state import Served

APPLIED = (
    "asked the service for MPS to replace or end at once each daemon that waits for its clients to "
    "end: the clients get an error"
)
QUIESCED = "ending each MPS daemon that has no clients: none is started until `resume`"
RESUMED = "starting the MPS daemons again"
ELSEWHERE = (
    "cannot do this here: only the service of `gpu-sharing-plugin run` watches the health of GPUs"
)


class Applying:
    """Answers each request at once."""

    def __init__(self) -> None:
        self._ended = False

    def end(self) -> None:
        """Refuse new requests, because the service is stopping."""
        self._ended = True

    def take(self, client: Client, request: Request, served: Served, children: Children) -> Served:
        """Handle *request*; return the new state of the service, which the keepers are told."""
        if self._ended:
            client.answer(Answer("cannot accept the request: the service is stopping"))
            return served
        logger.info("received a request", request=type(request).__name__)
        match request:
            case Apply():
                children.tell(ApplyNow())
                client.answer(Answer(done=APPLIED))
            case Quiesce():
                client.answer(Answer(done=QUIESCED))
                return replace(served, quiesced=True)
            case Resume():
                client.answer(Answer(done=RESUMED if served.quiesced else ""))
                return replace(served, quiesced=False)
            case MarkHealthy():
                client.answer(Answer(ELSEWHERE))
        return served

    def marked(self, error: str) -> None:
        """Do nothing: there is no monitor here."""

    def go_on(self, children: Children, now: float) -> None:
        """Do nothing: no request waits here."""
