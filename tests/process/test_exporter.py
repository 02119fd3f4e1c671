"""The exporter of a running service: what Prometheus reads, and what hostile clients cannot do."""

import asyncio
import contextlib
import gzip
import json
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from simulator.kubelet import AdmissionError, Kubelet
from supervisor.exporter.crowd import CONNECTIONS
from tests.fakes.figures import FIGURES
from tests.fakes.service import PATIENCE, Service, kubelet, service, until

GPU = "nvidia.com/gpu"
UUIDS = [f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(8)]
NODE: dict[str, object] = {"gpus": [{}, {}]}


@contextlib.asynccontextmanager
async def started(
    folder: Path, *options: str, node: dict[str, object] = NODE, exec_because: str = ""
) -> AsyncIterator[tuple[Kubelet, Service]]:
    """Run the service until it is ready and devices are Healthy."""
    async with (
        kubelet(folder) as stand_in,
        service(folder, *options, node=node, exec_because=exec_because) as running,
    ):
        await running.ready()
        await stand_in.until(lambda k: k.healthy(GPU) > 0)
        yield stand_in, running


def test_devices_are_attributed_to_pods(folder: Path) -> None:
    """An allocated device is attributed to its pod, until the pod is deleted."""

    async def story() -> None:
        async with started(folder, "--resource-config=gpu:gpu:2") as (node, running):
            got = await node.admit("a-pod", GPU, 1)
            uuid, _, replica = got.ids[0].partition("::")
            labels = {"namespace": "simulated", "pod": "a-pod", "container": "main"}
            await running.shows(
                "gpu_sharing_allocation_info",
                1.0,
                resource=GPU,
                uuid=uuid,
                replica=replica,
                **labels,
            )
            await running.shows("gpu_sharing_devices_allocated", 1.0, resource=GPU, uuid=uuid)
            node.delete("a-pod")
            await node.admit("another-pod", GPU, 2)

            async def is_gone() -> bool:
                return "a-pod" not in {
                    value for _, labels in await running.samples() for _, value in labels
                }

            await until(is_gone, "the pod's end")

    asyncio.run(story())


def test_calls_are_counted(folder: Path) -> None:
    """The kubelet's calls are counted by method, and refused calls by their gRPC code."""

    async def story() -> None:
        async with started(folder) as (node, running):
            await node.admit("pod", GPU, 1)
            running.node.xid(0, 79)
            running.node.xid(1, 79)
            await node.until(lambda k: k.healthy(GPU) == 0)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError):
                await node.admit("refused", GPU, 1)
            labels = {"resource": GPU, "method": "Allocate"}
            await running.shows("gpu_sharing_rpc_duration_seconds_count", 2.0, **labels)
            await running.shows(
                "gpu_sharing_rpc_errors_total", 1.0, code="FAILED_PRECONDITION", **labels
            )

    asyncio.run(story())


def test_a_worker_that_does_not_answer_fails_livez(folder: Path) -> None:
    """When another process takes over a worker's socket path, /livez fails and names the worker."""

    async def story() -> None:
        with socket.socket(socket.AF_UNIX) as other:
            async with started(folder) as (_, running):
                path = folder / "kubelet/nvidia-gpu.sock"
                other.bind(f"{folder}/other")
                other.listen()
                (folder / "other").replace(path)  # in one step: the worker watches it

                async def says_why() -> bool:
                    status, body = await running.get("/livez")
                    why = [f"worker {GPU}: does not answer on its own socket"]
                    return status == 503 and json.loads(body)["problems"] == why

                await until(says_why, "the reason at /livez")

    asyncio.run(story())


def test_restarts_duplicate_no_series(folder: Path) -> None:
    """After any process restarts, the same series exist, and the Xid counter starts again."""

    def names(samples: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> set[object]:
        calls = {"gpu_sharing_nvml", "gpu_sharing_xid", "gpu_sharing_rpc"}
        return {key for key in samples if not any(key[0].startswith(prefix) for prefix in calls)}

    async def story() -> None:
        async with started(folder) as (node, running):
            running.node.xid(0, 31)
            await running.shows("gpu_sharing_xid_errors_total", 1.0, uuid=UUIDS[0], xid="31")
            before = names(await running.samples())
            for name in ("monitor", "exporter", f"worker {GPU}"):
                old = running.kill(name)
                await running.restarted(name, old)
                await running.ready()
                await node.until(lambda k: k.healthy(GPU) == 2)

                async def is_as_before() -> bool:
                    return names(await running.samples()) == before

                await until(is_as_before, f"the series after the end of {name}")
            for name in ("monitor", "exporter", f"worker {GPU}"):
                await running.shows("gpu_sharing_process_restarts_total", 1.0, process=name)
            running.node.xid(0, 31)
            await running.shows("gpu_sharing_xid_errors_total", 1.0, uuid=UUIDS[0], xid="31")

    asyncio.run(story())


def test_formats(folder: Path) -> None:
    """A scraper gets the format it asks for, compressed if it accepts gzip; HEAD has no body."""

    def ask(url: str, method: str = "GET", **headers: str) -> tuple[dict[str, str], bytes]:
        request = urllib.request.Request(  # noqa: S310 - our own http
            f"{url}/metrics", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        request.method = method
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return {k.lower(): v for k, v in answer.headers.items()}, answer.read()

    async def story() -> None:
        async with started(folder) as (_, running):
            url = running.url()
            plain, body = await asyncio.to_thread(ask, url)
            assert plain["content-type"].startswith("text/plain")
            assert b"# TYPE gpu_sharing_devices gauge" in body
            accept = "application/openmetrics-text; version=1.0.0"
            other, text = await asyncio.to_thread(ask, url, Accept=accept)
            assert other["content-type"].startswith("application/openmetrics-text; version=1.0.0")
            assert text.endswith(b"# EOF\n")
            packed, data = await asyncio.to_thread(ask, url, Accept_Encoding="gzip, deflate")
            assert packed["content-encoding"] == "gzip"
            assert b"gpu_sharing_devices" in gzip.decompress(data)
            head, nothing = await asyncio.to_thread(ask, url, "HEAD")
            assert (int(head["content-length"]) > 0, nothing) == (True, b"")

    asyncio.run(story())


def connect(url: str) -> socket.socket:
    """Return a connection to the exporter."""
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def talk(url: str, data: bytes) -> bytes:
    """Return everything that the exporter sends until it closes the connection."""
    with connect(url) as end:
        end.sendall(data)
        return b"".join(iter(lambda: end.recv(1 << 16), b""))


HOSTILE = {
    "a page of another site": (
        b"GET /status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b" 421 ",
    ),
    "a malformed Accept": (
        b"GET /metrics HTTP/1.0\r\nAccept: text/plain;version=x\r\n\r\n",
        b" 200 ",
    ),
    "another method": (
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b" 405 ",
    ),
    "no path of ours": (
        b"GET /x<y> HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b" 404 ",
    ),
    "no HTTP": (b"\x00\xff\x00\xff\r\n\r\n", b" 400 "),
    "huge headers": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000, b" 400 "),
    "very many headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, b" 400 "),
    "a path that climbs": (
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b" 404 ",
    ),
    "an upgrade": (
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: x\r\n\r\n",
        b" 200 ",
    ),
}


def test_hostile_requests(folder: Path) -> None:
    """Each hostile request gets its HTTP status; the exporter still answers and logs nothing."""

    async def story() -> None:
        async with started(folder) as (_, running):
            logged = len(running.entries)
            for what, (data, status) in HOSTILE.items():
                with contextlib.suppress(ConnectionError):
                    answer = await asyncio.to_thread(talk, running.url(), data)
                    assert status in answer.split(b"\r\n")[0] + b" ", what
            assert (await running.get("/livez"))[0] == 200
            assert running.entries[logged:] == []

    asyncio.run(story())


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def crowd(url: str) -> Iterator[socket.socket]:
    """Yield more connections than the exporter allows: some send nothing, the others half a
    request.
    """
    for number in range(CONNECTIONS + 50):
        end = connect(url)
        if number % 2:
            end.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        yield end


def last_words(ends: list[socket.socket]) -> set[bytes]:
    """Return what the exporter sends on the connections, some of which keep sending, until they
    close.
    """
    words = set()
    for number, end in enumerate(ends):
        with contextlib.suppress(ConnectionError), end:
            if number % 3 == 0:
                end.sendall(b"a")
            words.add(end.recv(100))
    return words


def test_hostile_clients_stop_no_probe(folder: Path) -> None:
    """Despite many silent or slow connections, probes are answered and the exporter closes all
    those connections.
    """

    async def story() -> None:
        async with started(folder) as (_, running):
            ends = await asyncio.to_thread(lambda: list(crowd(running.url())))
            for path in ("/livez", "/readyz", "/metrics"):
                assert (await running.get(path))[0] == 200
            assert await asyncio.to_thread(last_words, ends) <= {b""}
            exporter = running.pids()["exporter"]
            await until(lambda: descriptors(exporter) < 60, "end of their descriptors")
            assert running.count("killing a process") == 0

    asyncio.run(story())


def test_scrapes_do_not_increase_memory(folder: Path) -> None:
    """300 scrapes and page loads of a busy node do not increase the exporter's memory."""

    def load(url: str, count: int) -> float:
        took = []
        for number in range(count):
            path = ("/metrics", "/status", "/")[number % 3]
            begun = time.monotonic()
            with urllib.request.urlopen(url + path, timeout=PATIENCE) as answer:  # noqa: S310
                answer.read()
            took.append((time.monotonic() - begun) * 1000)
        return min(took)

    def resident(pid: int) -> int:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return int(fields[1]) * 4

    async def story() -> tuple[int, float]:
        options, why = "--resource-config=gpu:gpu:100", "its memory is measured"
        async with started(folder, options, node={"gpus": [{}] * 8}, exec_because=why) as (
            node,
            running,
        ):
            for pod in range(100):
                await node.admit(f"pod-{pod}", GPU, 8)
            await running.shows("gpu_sharing_devices_allocated", 100.0, resource=GPU, uuid=UUIDS[0])
            pid = running.pids()["exporter"]
            await asyncio.to_thread(load, running.url(), 100)
            before = resident(pid)
            took = await asyncio.to_thread(load, running.url(), 300)
            return resident(pid) - before, took

    grown, took = asyncio.run(story())
    FIGURES.append(
        f"300 scrapes and pages of 8 GPUs x 100 replicas, all held: best {took:.1f} ms, "
        f"memory grew by {grown} KiB"
    )
    assert grown < 2048  # 2048 KiB would be 7 KiB each
    assert took < 200  # the promise for a scrape is 20 ms
