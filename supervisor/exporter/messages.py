"""Requests and responses of the exporter's HTTP server."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every answer: do not cache it, do not guess another content type."""


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD."""

    path: str
    headers: dict[str, str]
    """By name in lower case; the last value wins if a name repeats."""
    local: bool = False
    """Whether it came over a unix socket."""
    certified: bool = False
    """Whether the client has a certificate that TLS verified."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request."""

    status: int
    headers: Iterable[tuple[str, str]]
    body: bytes


def plain(status: int, body: object, *headers: tuple[str, str]) -> Response:
    """Return a response with *body* as JSON."""
    text = json.dumps(body).encode() + b"\n"
    return Response(status, [("Content-Type", "application/json"), *headers], text)
