"""Requests of operators to the running service: quiesce, resume, mark-healthy."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proto import requests
from proto.requests import Answer, Resume
from simulator.kubelet import AdmissionError, Kubelet
from supervisor import maintenance
from supervisor.commands.ask import AskError, ask
from tests.conftest import children
from tests.fakes import commands
from tests.fakes.service import (
    PATIENCE,
    Service,
    kubelet,
    open_files,
    service,
    until,
)

GPU = "nvidia.com/gpu"
FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(2))
NODE: dict[str, object] = {"gpus": [{}, {}]}
QUICK = "health: {pollInterval: 200ms, recovery: {mode: never}}\n"


async def command(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command on the service in *folder*; return its exit code and what it printed."""
    done = await asyncio.to_thread(commands.run, *words, f"--runtime-dir={folder}")
    return done.returncode, f"{done.stdout}{done.stderr}".strip()


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[Kubelet, Service]]:
    """Run the service on two GPUs and wait until both are Healthy and watched."""
    (folder / "config.yaml").write_text(QUICK)
    options = f"--config-file={folder}/config.yaml"
    async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
        await node.until(lambda k: k.healthy(GPU) == 2)
        await running.logged("watching GPUs for Xid events")
        yield node, running


def test_quiesce_and_resume(folder: Path) -> None:
    """After `quiesce` there is no monitor and Allocate is refused; after `resume` all devices are
    Healthy.
    """

    async def story() -> None:
        async with started(folder) as (node, running):
            assert await command(folder, "quiesce") == (0, maintenance.QUIESCED)
            assert "monitor" not in running.pids()
            await node.until(lambda k: k.healthy(GPU) == 0)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError, match="maintenance"):
                await node.admit("pod", GPU, 1)
            assert await command(folder, "quiesce") == (0, maintenance.QUIESCED)
            assert await command(folder, "resume") == (0, maintenance.RESUMED)
            await node.until(lambda k: k.resources[GPU].lists >= 3 and k.healthy(GPU) == 2)
            assert await command(folder, "resume") == (0, maintenance.NOTHING_TO_RESUME)
            assert node.registrations == 1

    asyncio.run(story())


def test_a_worker_that_starts_during_maintenance(folder: Path) -> None:
    """A worker that restarts during maintenance lists its devices at once, all Unhealthy."""

    async def story() -> None:
        async with started(folder) as (node, running):
            await command(folder, "quiesce")
            old = running.kill(f"worker {GPU}")
            await running.restarted(f"worker {GPU}", old)
            await node.until(lambda k: k.registrations == 2 and len(k.resources[GPU].devices) == 2)
            assert node.healthy(GPU) == 0

    asyncio.run(story())


def test_quiesce_frees_the_driver(folder: Path, library: Path) -> None:
    """After `quiesce`, no process of the service has the driver's library loaded or open."""

    def users(running: Service) -> set[str]:
        pids = {"supervisor": running.process.pid, **running.pids()}
        return {
            name
            for name, pid in pids.items()
            if library.name in Path(f"/proc/{pid}/maps").read_text()
            or str(folder / "commands") in open_files(pid)
        }

    async def story() -> None:
        environment = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
        async with (
            kubelet(folder) as node,
            service(folder, environment=environment) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert users(running) == {"monitor"}
            assert await command(folder, "quiesce") == (0, maintenance.QUIESCED)
            assert users(running) == set()
            assert await command(folder, "resume") == (0, maintenance.RESUMED)
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert users(running) == {"monitor"}

    asyncio.run(story())


@pytest.mark.parametrize("device", [FIRST, "0"])
def test_mark_healthy(folder: Path, device: str) -> None:
    """`mark-healthy` makes a device Healthy whose fault would never end by itself."""

    async def story() -> None:
        async with started(folder) as (node, running):
            running.node.xid(0, 79)
            running.node.xid(1, 79)
            await node.until(lambda k: k.healthy(GPU) == 0)
            running.node.reset(0)
            running.node.reset(1)
            await running.logged(
                "device is unhealthy", uuid=FIRST, reasons=["xid 79"], state="unhealthy"
            )
            done = maintenance.MARKED.format(device)
            assert await command(folder, "mark-healthy", device) == (0, done)
            await node.until(lambda k: set(k.resources[GPU].healthy()) == {FIRST})

    asyncio.run(story())


def test_impossible_requests_are_refused(folder: Path) -> None:
    """Each impossible request gets one line that says why, and exit code 1."""

    async def story() -> None:
        nobody = f'cannot reach the service in "{folder}": No such file or directory; '
        nobody += "check that it is running with this --runtime-dir"
        assert await command(folder, "quiesce") == (1, nobody)
        async with started(folder) as (_, running):
            assert await command(folder, "mark-healthy", "7") == (
                1,
                'cannot find a GPU or MIG instance "7"',
            )
            assert await command(folder, "quiesce") == (0, maintenance.QUIESCED)
            assert await command(folder, "mark-healthy", "0") == (
                1,
                "cannot mark a device healthy: the monitor is down; run resume, or wait",
            )
            assert running.process.returncode is None

    asyncio.run(story())


def test_clients_that_send_garbage_or_nothing(folder: Path) -> None:
    """Garbage gets an error as its answer, and silent clients do not block other requests."""

    def talk() -> tuple[Answer, int]:
        with contextlib.ExitStack() as stack:
            ends = []
            for _ in range(30):
                end = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                end.connect(str(folder / requests.SOCKET))
                end.settimeout(PATIENCE)
                ends.append(end)
            ends[-1].send(b"\xff" * 3000)
            answer = requests.decode_answer(ends[-1].recv(requests.LIMIT))
            refused = requests.decode_answer(ends[0].recv(requests.LIMIT))
            return answer, refused.error.count("too many")

    async def story() -> None:
        async with started(folder) as (node, running):
            assert await asyncio.to_thread(talk) == (
                Answer("cannot understand the request: use the same version"),
                1,
            )
            assert await command(folder, "quiesce") == (0, maintenance.QUIESCED)
            assert node.registrations == 1
            assert running.count("crashed") == 0
            mode = (folder / requests.SOCKET).stat().st_mode & 0o777
            assert mode == 0o600

    asyncio.run(story())


def test_a_deleted_control_socket_is_created_again(folder: Path) -> None:
    """When the control socket is deleted, the service creates it again and answers requests."""

    async def story() -> None:
        async with started(folder):
            (folder / requests.SOCKET).unlink()
            await until((folder / requests.SOCKET).exists, "another socket")
            assert await command(folder, "quiesce") == (0, maintenance.QUIESCED)

    asyncio.run(story())


def test_a_monitor_that_does_not_end_is_killed(folder: Path) -> None:
    """A monitor that does not end by itself is killed before `quiesce` returns."""

    async def story() -> None:
        async with started(folder) as (_, running):
            running.kill("monitor", signal.SIGSTOP)
            assert await command(folder, "quiesce") == (0, maintenance.QUIESCED)
            assert "monitor" not in running.pids()

    asyncio.run(story())


def test_health_from_an_ending_monitor_is_ignored(folder: Path) -> None:
    """Health that the monitor publishes between `quiesce` and its end makes no device Healthy."""

    async def story() -> None:
        async with started(folder) as (node, running):
            await running.shows("gpu_sharing_device_healthy", 1, uuid=FIRST)
            running.node.hang(0)
            await running.restarted("monitor", running.kill("monitor"))
            quiesce = asyncio.create_task(command(folder, "quiesce"))
            await running.logged("received a request", request="Quiesce")
            running.node.recover(0)
            assert await quiesce == (0, maintenance.QUIESCED)
            name, reason = "gpu_sharing_device_unhealthy_reason", "maintenance"
            await running.shows(name, 1, uuid=FIRST, reason=reason)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError, match=reason):
                await node.admit("pod", GPU, 1)

    asyncio.run(story())


def test_a_monitor_that_is_not_ready_does_not_replace_maintenance(folder: Path) -> None:
    """When a starting monitor reports a problem after `quiesce`, the reason stays `maintenance`."""

    async def story() -> None:
        options = ("--log-level=debug", "--pod-labels=false")
        async with kubelet(folder) as node, service(folder, *options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            running.node.deny(denied=True)
            await running.logged("process is not ready", child="monitor")
            stopped: set[int] = set()
            while not stopped:  # until it is caught before its report
                ended = len(running.entries)
                await running.logged("process changed state", ended, state="backoff")
                others = set(children(running.process.pid))
                await running.logged("process changed state", ended, state="starting")
                stopped = set(children(running.process.pid)) - others
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
            quiesce = asyncio.create_task(command(folder, "quiesce"))
            await running.logged("received a request", request="Quiesce")
            os.kill(stopped.pop(), signal.SIGCONT)
            assert (await quiesce)[0] == 0
            running.kill(f"worker {GPU}")
            await node.until(lambda k: k.registrations == 2 and len(k.resources[GPU].devices) == 2)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError, match="maintenance"):
                await node.admit("pod", GPU, 1)

    asyncio.run(story())


def test_a_stopping_service_refuses_requests(folder: Path) -> None:
    """While the service stops, it refuses requests, so that no new process is left behind."""

    async def story() -> None:
        async with started(folder) as (_, running):
            running.kill("monitor", signal.SIGSTOP)
            running.process.terminate()
            await running.logged("received a signal, stopping")
            # Not with the command: on a busy machine the service may end before that has started.
            with pytest.raises(
                AskError, match="cannot accept the request: the service is stopping"
            ):
                await asyncio.to_thread(ask, folder, Resume())
            assert await running.ended() == 0
            assert running.count("cannot kill a process, leaving it behind") == 0

    asyncio.run(story())
