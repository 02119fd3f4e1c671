"""Access to the exporter: TLS, client certificates and a token."""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.commands.ask import AskError
from supervisor.commands.fetch import fetch
from tests.fakes.certificates import certify
from tests.fakes.service import PATIENCE, Service, kubelet, service, until
from tests.unit.refusal import message

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of this test
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def port(running: Service) -> int:
    """Return the exporter's port, from the last "serving metrics" in the log."""
    urls = [entry["url"] for entry in running.entries if entry["message"] == "serving metrics"]
    return int(urls[-1].removesuffix("/metrics").rpartition(":")[2])


def ask(
    running: Service,
    path: str,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Return the status and body of an answer; the status is 0 if the connection or TLS fails."""
    address = ("127.0.0.1", port(running))
    connection = (
        http.client.HTTPSConnection(*address, timeout=PATIENCE, context=context)
        if context
        else http.client.HTTPConnection(*address, timeout=PATIENCE)
    )
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def trusting(folder: Path, client: str = "") -> ssl.SSLContext:
    """Return the TLS context of a client that trusts the server, with a client certificate if one
    is named.
    """
    context = ssl.create_default_context(cafile=str(folder / "server.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def test_only_clients_with_the_token_are_answered(folder: Path) -> None:
    """Without the token, only the probes are answered. A changed token is used at once; an unusable
    token is ignored and the old one stays. `status` needs no token.
    """

    async def story() -> None:
        file = folder / "token"
        file.write_text(TOKEN + "\n")
        options = f"--metrics-token-file={file}"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("serving metrics")

            async def is_live() -> bool:
                return (await asyncio.to_thread(ask, running, "/livez"))[0] == 200

            await until(is_live, "the workers' first word")
            wrong: tuple[dict[str, str], ...]
            wrong = ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"})
            for path in ("/metrics", "/status", "/", "/x"):
                for headers in wrong:
                    assert (await asyncio.to_thread(ask, running, path, headers))[0] == 401
            assert (await asyncio.to_thread(ask, running, "/metrics", BEARER))[0] == 200
            _, body = await asyncio.to_thread(ask, running, "/livez")
            assert json.loads(body) == {"ok": True, "problems": []}
            assert json.loads(await asyncio.to_thread(fetch, folder, "/status"))["version"]

            file.write_text("short")
            await running.logged("cannot use the new certificate or token, keeping the old one")
            assert (await asyncio.to_thread(ask, running, "/metrics", BEARER))[0] == 200
            file.write_text(f"{TOKEN}-new")
            await running.logged("restarting the exporter: a certificate or the token changed")
            await until(lambda: running.count("serving metrics") == 2, "second exporter")
            new = {"Authorization": f"Bearer {TOKEN}-new"}
            assert (await asyncio.to_thread(ask, running, "/metrics", BEARER))[0] == 401
            assert (await asyncio.to_thread(ask, running, "/metrics", new))[0] == 200
            assert TOKEN not in str(running.entries)

    asyncio.run(story())


def test_a_probe_without_the_token_gives_no_reason(folder: Path) -> None:
    """Without the token, a probe says whether the service is ready, but not why it is not."""

    async def story() -> None:
        file = folder / "token"
        file.write_text(TOKEN)
        options = f"--metrics-token-file={file}"
        async with service(folder, options, node=NODE) as running:  # not ready: no kubelet
            await running.logged("serving metrics")
            code, body = await asyncio.to_thread(ask, running, "/readyz")
            _, told = await asyncio.to_thread(ask, running, "/readyz", BEARER)

            assert (code, json.loads(body)) == (503, {"ok": False, "problems": []})
            assert json.loads(told)["problems"]

    asyncio.run(story())


def test_https_with_client_certificates(folder: Path) -> None:
    """With a certificate, only HTTPS is answered. With a client CA, clients without a certificate
    get only the probes. A silent client in the handshake blocks no other client.
    """

    async def story() -> None:
        for name, signer in (("server", ""), ("clients", ""), ("prom", "clients"), ("evil", "")):
            await asyncio.to_thread(certify, folder, name, signer)
        options = (
            f"--metrics-tls-cert={folder}/server.crt",
            f"--metrics-tls-key={folder}/server.key",
            f"--metrics-client-ca={folder}/clients.crt",
        )
        async with kubelet(folder) as node, service(folder, *options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            told = await running.logged("serving metrics")
            assert told["url"].startswith("https://127.0.0.1:")
            with socket.create_connection(("127.0.0.1", port(running))):
                stranger, known = trusting(folder), trusting(folder, "prom")

                async def is_live() -> bool:
                    return (await asyncio.to_thread(ask, running, "/livez", {}, stranger))[0] == 200

                await until(is_live, "the workers' first word")
                expected = {
                    ("/metrics", stranger): 401,
                    ("/livez", stranger): 200,
                    ("/metrics", known): 200,
                    ("/status", known): 200,
                    ("/metrics", trusting(folder, "evil")): 0,
                    ("/metrics", None): 0,
                }
                for (path, context), code in expected.items():
                    got = await asyncio.to_thread(ask, running, path, {}, context)
                    assert (path, got[0]) == (path, code)
            assert json.loads(await asyncio.to_thread(fetch, folder, "/status"))["version"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("flag", "content", "said"),
    [
        ("token", "short", "write a token of 16 or more ASCII characters"),
        ("token", "", "write a token of 16 or more ASCII characters"),
        ("none", None, "No such file or directory"),
    ],
)
def test_an_unusable_token_file_is_reported(
    folder: Path, flag: str, content: str | None, said: str
) -> None:
    """When the token file is unusable, the exporter says so and serves no HTTP; GPUs are served."""

    async def story() -> None:
        file = folder / flag
        if content is not None:
            file.write_text(content)
        options = f"--metrics-token-file={file}"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            told = await running.logged("process is not ready", child="exporter")
            await node.until(lambda k: k.healthy(GPU) == 2)

            assert told["reason"].startswith("cannot ")
            with pytest.raises(AskError, match="the service runs, but its exporter does not serve"):
                await asyncio.to_thread(fetch, folder, "/status")
            assert said in told["reason"]
            assert running.count("serving metrics") == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"service.metricsTlsCert": "/c"}, "cannot use only one of --metrics-tls-cert and"),
        ({"service.metricsTlsKey": "/k"}, "cannot use only one of --metrics-tls-cert and"),
        ({"service.metricsClientCa": "/a"}, "cannot use --metrics-client-ca without TLS"),
    ],
)
def test_incomplete_tls_options_are_refused(flags: dict[str, str], said: str) -> None:
    """TLS options that need another option are refused when it is missing."""
    assert message(flags, {}).startswith(said)


def test_every_answer_has_the_security_headers(folder: Path) -> None:
    """Every answer has headers against caching and content sniffing, and none that names the
    server.
    """

    async def story() -> None:
        async with service(folder, node=NODE) as running:
            await running.logged("serving metrics")
            for path in ("/", "/status", "/metrics", "/livez", "/readyz", "/none"):
                headers = await asyncio.to_thread(headers_of, port(running), path)

                assert headers["Cache-Control"] == "no-store"
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert "Server" not in headers

    asyncio.run(story())


def headers_of(at: int, path: str) -> http.client.HTTPMessage:
    """Return the headers of the answer for a path."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", at, timeout=PATIENCE)) as end:
        end.request("GET", path)
        return end.getresponse().headers
