"""What the exporter answers, to whom, and in which format."""

import json
import os
from dataclasses import replace

import pytest

from proto.exporter import ExporterSettings, HttpGuard
from proto.paths import Paths
from supervisor.config.option import host_name
from supervisor.exporter.formats import choose
from supervisor.exporter.hosts import is_ours
from supervisor.exporter.http_auth import Guard
from supervisor.exporter.messages import Request
from supervisor.exporter.pages import Pages
from supervisor.exporter.quick import LONGEST, quick
from supervisor.status.snapshot import Snapshot

OPEN = Guard(HttpGuard(), None, "", ())
SETTINGS = ExporterSettings(Paths("", "", "", ""), "", 0, 10.0, "1", "", allowed_hosts=("node-1",))
PAGES = Pages(SETTINGS, OPEN, Snapshot)


def asked(path: str, host: str = "127.0.0.1:9450", *, local: bool = False) -> Request:
    """Return a request."""
    return Request(path, {"host": host}, local=local)


@pytest.mark.parametrize(
    "host",
    [
        "10.1.2.3",
        "10.1.2.3:9450",
        "[fd00::1]:9450",
        "[::1]",
        "localhost",
        "LOCALHOST:9450",
        "localhost.",
        "node-1",
        "Node-1.:9450",
        "a.gpus.example:80",
        "a.b.gpus.example",
        "gpus.svc",
        "",
    ],
)
def test_our_hosts(host: str) -> None:
    """IP addresses, localhost, and our names with or without a port are our hosts."""
    assert is_ours(host, ("", "node-1", "*.gpus.example", "GPUS.svc."))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9450",
        "node-1.evil.example",
        "xnode-1",
        "gpus.example",
        ".gpus.example",
        "xgpus.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "1.2.3",
        "a b",
        "[::1].evil.example",
        "[fe80::1%evil.example]",
        "[fe80::1%eth0]:9450",
        ":9450x",
    ],
)
def test_hosts_of_others(host: str) -> None:
    """Every other name is not our host, whatever it begins or ends with."""
    names = ("", "node-1", "*.gpus.example", "GPUS.svc.")
    assert not is_ours(host, names)
    assert is_ours(host, (*names, "*"))


@pytest.mark.parametrize("text", ["*", "*.a.b", "a", "A-1.b_c.d", "a." + "b" * 200, "a.b."])
def test_allowed_host_names(text: str) -> None:
    """Names, domains and `*` can be allowed."""
    assert host_name(text) == text


@pytest.mark.parametrize(
    "text",
    ["a:80", "http://a", "a/b", "*a", "a.*", "*.", "-a", "a-", "[::1]", "a b", "a..b", "a.-b", "."],
)
def test_no_host_names(text: str) -> None:
    """A text that can be no name of a host is refused."""
    with pytest.raises(ValueError, match=r"^write names without a port, such as"):
        host_name(text)


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/none"])
def test_a_page_of_another_site_reads_nothing(path: str) -> None:
    """A request with the name of another site as its host is refused, in words."""
    answer = PAGES.answer(asked(path, "evil.example"))
    assert answer.status == 421
    expected = 'cannot answer for host "evil.example": add it to --metrics-allowed-hosts'
    assert json.loads(answer.body) == {"error": expected}
    assert PAGES.answer(asked(path, "evil.example", local=True)).status != 421
    for host in ("node-1", os.uname().nodename, "10.0.0.1"):
        assert PAGES.answer(asked(path, host)).status == (404 if path == "/none" else 200)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_with_another_host_gets_no_reason(path: str) -> None:
    """A probe is answered whatever its host is, but gives reasons only to our hosts."""
    told = [PAGES.answer(asked(path, host)) for host in ("10.0.0.1", "evil.example")]
    assert [answer.status for answer in told] == [503, 503]
    problems = [json.loads(answer.body)["problems"] for answer in told]
    assert problems == [["supervisor: no heartbeat"], []]


def test_a_long_name_is_not_repeated() -> None:
    """An error repeats only the beginning of a long host or path."""
    for request in (asked("/" + "x" * 9999), asked("/status", "x" * 9999)):
        assert len(PAGES.answer(request).body) < 300


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=x", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.x;q=;=,;,", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0.x",
            "text/plain; version=0.0.4; charset=utf-8",
        ),
        ("application/openmetrics-text;version=7.7", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
    ],
)
def test_formats(accept: str, kind: str) -> None:
    """A scraper gets the format that it asks for; a malformed or unknown one is plain text."""
    answer = PAGES.answer(replace(asked("/metrics"), headers={"accept": accept}))
    assert (answer.status, dict(answer.headers)["Content-Type"]) == (200, kind)
    assert (b"# EOF" in answer.body) is ("openmetrics" in kind)


def test_few_formats() -> None:
    """A client cannot have bodies made in ever new formats."""
    accepts = [
        f"{mime};version={major}.{minor};escaping={escaping}"
        for mime in ("application/openmetrics-text", "text/plain")
        for major in range(9)
        for minor in ("0", "0.0", "1", "x", "999999999999999999")
        for escaping in ("allow-utf-8", "underscores", "dots", "values", "x")
    ]
    assert len({choose(accept)[1] for accept in accepts}) <= 10


PROBE = b"GET /livez HTTP/1.1\r\nHost: 10.0.0.1:9450\r\nUser-Agent: kube-probe/1.32\r\n\r\n"


def test_a_probe_on_the_short_way() -> None:
    """A whole probe is answered as on the long way, and the connection is closed."""
    head, _, body = quick(PROBE, PAGES.answer).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    assert status == "HTTP/1.1 503 Service Unavailable"
    headers = dict(line.split(": ") for line in lines)
    assert headers["connection"] == "close"
    assert headers["cache-control"] == "no-store"
    assert int(headers["content-length"]) == len(body)
    assert json.loads(body) == {"ok": False, "problems": ["supervisor: no heartbeat"]}
    without = quick(PROBE.replace(b"GET", b"HEAD"), PAGES.answer)
    assert without == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PROBE[:-1],
        PROBE + b"x",
        PROBE + PROBE,
        PROBE.replace(b"livez", b"metrics"),
        PROBE.replace(b"livez", b"livez/"),
        PROBE.replace(b"GET", b"POST"),
        PROBE.replace(b"1.1", b"1.0"),
        PROBE.replace(b"Host: 10.0.0.1:9450\r\n", b""),
        PROBE.replace(b"User-Agent", b"Host"),
        PROBE.replace(b"User-Agent", b"Content-Length"),
        PROBE.replace(b"User-Agent", b"transfer-encoding"),
        PROBE.replace(b"User-Agent:", b"User-Agent :"),
        PROBE.replace(b"User-Agent:", b" folded:"),
        PROBE.replace(b"kube", b"k\x00be"),
        PROBE.replace(b"kube", b"k\xffbe"),
        PROBE.replace(b"\r\n", b"\n"),
        PROBE.replace(b"kube", b"k" * (LONGEST - len(PROBE) + 4)),
    ],
)
def test_no_probe_for_the_short_way(data: bytes) -> None:
    """Whatever is unusual in any way is left to h11."""
    assert quick(data, PAGES.answer) == b""
