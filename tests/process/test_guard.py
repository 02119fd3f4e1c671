"""Who may ask the exporter: TLS, clients' certificates and a token."""

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.commands.show_status import _fetch
from tests.fakes.service import PATIENCE, Service, kubelet, service, until
from tests.unit.refusal import message

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of this test's
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in a folder."""
    subprocess.run(["/usr/bin/openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certify(folder: Path, name: str, signer: str = "") -> None:
    """Make a key and a certificate, signed by that of *signer* or by itself."""
    signed = ("-CA", f"{signer}.crt", "-CAkey", f"{signer}.key") if signer else ()
    openssl(
        folder,
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", *signed),
    )


def port(running: Service) -> int:
    """Return the port that the log tells of last."""
    urls = [entry["url"] for entry in running.entries if entry["message"] == "serving metrics"]
    return int(urls[-1].removesuffix("/metrics").rpartition(":")[2])


def ask(
    running: Service,
    path: str,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Return the status and body of an answer; 0 where TLS does not come about."""
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
    """Return what a client goes by that trusts the server, with a certificate of its own or not."""
    context = ssl.create_default_context(cafile=str(folder / "server.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    return context


def test_only_who_bears_the_token_is_answered(folder: Path) -> None:
    """Without the token there are the probes' verdicts and nothing else; `status` needs none. A new
    token in the file is the one that counts, and one that is no good changes nothing.
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
            assert json.loads(await asyncio.to_thread(_fetch, folder))["version"]

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


def test_a_probe_of_strangers_tells_no_details(folder: Path) -> None:
    """Why a probe fails is for those who bear the token; that it fails is for all."""

    async def story() -> None:
        file = folder / "token"
        file.write_text(TOKEN)
        options = f"--metrics-token-file={file}"
        async with service(folder, options, node=NODE) as running:  # no kubelet: not ready
            await running.logged("serving metrics")
            code, body = await asyncio.to_thread(ask, running, "/readyz")
            _, told = await asyncio.to_thread(ask, running, "/readyz", BEARER)

            assert (code, json.loads(body)) == (503, {"ok": False, "problems": []})
            assert json.loads(told)["problems"]

    asyncio.run(story())


def test_https_with_certificates_of_clients(folder: Path) -> None:
    """With a certificate there is HTTPS only; with an authority for clients only they are answered,
    but for the probes. A silent client in the handshake holds nobody up.
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
            assert json.loads(await asyncio.to_thread(_fetch, folder))["version"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("flag", "content", "said"),
    [
        ("token", "short", "write a token of 16 or more ASCII characters"),
        ("token", "", "write a token of 16 or more ASCII characters"),
        ("none", None, "No such file or directory"),
    ],
)
def test_a_guard_that_cannot_be_had_is_told(
    folder: Path, flag: str, content: str | None, said: str
) -> None:
    """Without the guard that is wanted there is no HTTP at all; GPUs are served all the same."""

    async def story() -> None:
        file = folder / flag
        if content is not None:
            file.write_text(content)
        options = f"--metrics-token-file={file}"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            told = await running.logged("process is not ready", child="exporter")
            await node.until(lambda k: k.healthy(GPU) == 2)

            assert told["reason"].startswith("cannot ")
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
def test_half_a_guard_is_refused(flags: dict[str, str], said: str) -> None:
    """Files that mean nothing without others are refused at the start."""
    assert message(flags, {}).startswith(said)


def test_every_answer_has_the_headers_that_protect_it(folder: Path) -> None:
    """No answer is kept by a cache or taken for what it is not, and none tells what serves it."""

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
    """Return the headers of an answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", at, timeout=PATIENCE)) as end:
        end.request("GET", path)
        return end.getresponse().headers
