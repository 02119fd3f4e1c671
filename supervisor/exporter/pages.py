"""What is shown of the status over HTTP: the page for people, the JSON for scripts."""

import time
from dataclasses import dataclass

import msgspec

from supervisor.status import report
from supervisor.status.page import POLICY, page
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About, status


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP client gets with status 200."""

    headers: tuple[tuple[str, str], ...]
    body: bytes


def answer(path: str, snapshot: Snapshot, about: About) -> Answer | None:
    """Return the answer to a GET of *path*; None for a path that is not ours."""
    match path:
        case "/status":
            kind, body = "application/json", msgspec.json.encode(_status(snapshot, about)) + b"\n"
            return Answer((("Content-Type", kind),), body)
        case "/":
            kind, body = "text/html; charset=utf-8", page(_status(snapshot, about)).encode()
            policy = ("Content-Security-Policy", POLICY)
            return Answer((("Content-Type", kind), policy), body)
        case _:
            return None


def _status(snapshot: Snapshot, about: About) -> report.Status:
    return status(snapshot, about, time.monotonic(), time.time())
