"""Targets for what HTTP clients send, and for what processes and pods name themselves."""

import re

import h11

from supervisor.exporter import formats, hosts, quick, usage_cgroup, usage_logs
from supervisor.exporter.messages import Request, Response

ADDRESS = re.compile(r"[0-9.]+|\[?[0-9A-Fa-f:.]+(%.*)?\]?", re.DOTALL)
ALLOWED = ("node-1", "*.example.com")


def host(data: bytes) -> None:
    """Take only an address, localhost or an allowed name for our own."""
    text = data.decode("latin-1")  # as uvicorn decodes headers
    name = re.sub(r":\d*$", "", text.strip()).removesuffix(".").lower()
    if hosts.is_ours(text, ()):
        assert not text or name == "localhost" or ADDRESS.fullmatch(name)
    elif hosts.is_ours(text, ALLOWED):
        assert name == "node-1" or name.endswith(".example.com")


def accept(data: bytes) -> None:
    """Choose one of few formats, whatever a scraper accepts."""
    kind = formats.choose(data.decode("latin-1"))[1]
    assert kind.startswith(("text/plain; version=", "application/openmetrics-text; version="))


BEGUN = b"GET /livez HTTP/1.1\r\nhost:a\r\n"


def probe(data: bytes) -> None:
    """Answer a probe at once only if h11 reads the same request from it, and nothing more."""
    for request in (data, BEGUN + data, BEGUN + data + b"\r\n\r\n"):
        _probe(request)


def _probe(data: bytes) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(200, (), b"yes")

    if not quick.quick(data, answer):
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    headers = {name.decode(): value.decode() for name, value in request.headers}
    path, sent = request.target.decode(), Request(seen[0].path, dict(seen[0].headers))
    assert (path, headers) == (sent.path, sent.headers)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)


def processes(data: bytes) -> None:
    """Name the owner of a process by any cgroup, and any names of log folders, or nobody."""
    cgroup, _, rest = data.decode(errors="surrogateescape").partition("\n\n")
    pods, _, links = rest.partition("\n\n")
    folders = usage_logs.read_names(pods.split("\n"), links.split("\n"))
    for within in (frozenset[str](), usage_cgroup.nests(cgroup)):
        found = usage_logs.owner(usage_cgroup.locate(cgroup, within), folders)
        named = (found.namespace, found.pod)
        assert named == ("", "") or named in folders.pods.values()
