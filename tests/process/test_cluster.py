"""The service reports faults to the Kubernetes API, and a broken API server does no harm."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulator.kubelet import Kubelet
from supervisor.cluster.node_condition import TYPE, UNHEALTHY
from tests.fakes.apiserver import ApiServer, apiserver
from tests.fakes.figures import FIGURES
from tests.fakes.service import PATIENCE, Service, kubelet, service, until

GPU = "nvidia.com/gpu"
UUIDS = [f"GPU-{n}0000000-0000-0000-0000-000000000000" for n in (1, 2)]
NODE: dict[str, object] = {"gpus": [{"uuid": uuid} for uuid in UUIDS]}
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
LONG_AGO = "2001-01-01T00:00:00Z"
QUICK = "health: {recovery: {quietPeriod: 200ms, probes: 1}, pollInterval: 100ms}"


@contextlib.asynccontextmanager
async def started(
    folder: Path, api: ApiServer, *options: str, exec_because: str = ""
) -> AsyncIterator[tuple[Kubelet, Service]]:
    """Run the service on a node of two GPUs, with a stand-in for the API server."""
    (folder / "config.yaml").write_text(f"version: v1\n{QUICK}\n")
    arguments = (f"--config-file={folder}/config.yaml", "--node-name=node-1", *options)
    environment = api.kubeconfig(folder)
    async with (
        kubelet(folder) as node,
        service(
            folder, *arguments, node=NODE, environment=environment, exec_because=exec_because
        ) as running,
    ):
        await running.logged("watching GPUs for Xid events")
        await node.until(lambda k: k.healthy(GPU) == 2)
        yield node, running


def test_a_fault_is_reported_once(folder: Path) -> None:
    """A fatal Xid creates two node Events; neither its repetition nor a restart of the cluster
    process creates more.
    """

    async def story() -> None:
        async with apiserver() as api, started(folder, api, "--node-events") as (node, running):
            running.node.xid(1, 79)
            await api.until("Events", lambda: api.told("GpuXid") and api.told("GpuUnhealthy"))
            (xid,) = api.told("GpuXid")
            assert f"Xid 79 on GPU 1 ({UUIDS[1]})" in xid["message"]
            assert (xid["type"], xid["count"]) == ("Warning", 1)
            fields = xid["metadata"]["annotations"]
            assert fields["gpu-sharing-plugin/uuid"] == UUIDS[1]
            # The next check may have found what the driver asks for.
            assert "xid:79" in fields["gpu-sharing-plugin/reason"].split(",")
            assert fields["gpu-sharing-plugin/remedy"] == "reboot"
            assert xid["source"] == {"component": "gpu-sharing-plugin", "host": "node-1"}
            node_object = {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "node-1"}
            assert xid["involvedObject"] == node_object
            running.node.xid(1, 79)
            await api.until("repetition", lambda: api.told("GpuXid")[0]["count"] == 2)
            seen = len(api.requests)
            await running.restarted("cluster", running.kill("cluster"))
            posts = "POST /api/v1/namespaces/default/events"
            await api.until("two tries", lambda: api.requests[seen:].count(posts) == 2)
            assert len(api.events) == 2
            assert api.told("GpuXid")[0]["count"] == 2
            assert (node.resources[GPU].lists, node.registrations) == (2, 1)

    asyncio.run(story())


def test_the_condition_follows_the_node(folder: Path) -> None:
    """The node condition is True while the Xid's fault lasts, and False after the GPU has
    recovered. A restart of the process patches nothing.
    """

    async def story() -> None:
        old = {"type": TYPE, "status": "True", "message": "boot 0", "lastTransitionTime": LONG_AGO}
        other = {"type": "Ready", "status": "True"}
        conditions = {TYPE: old, "Ready": other}
        async with (
            apiserver(conditions=conditions) as api,
            started(folder, api, "--node-condition", "--node-events") as (_, running),
        ):
            # The service clears the condition that an earlier boot of the node left behind.
            await api.until("False", lambda: api.conditions[TYPE]["status"] == "False")
            assert api.conditions[TYPE]["message"] == f"boot {BOOT}; no fatal Xid"
            assert api.conditions[TYPE]["lastTransitionTime"] != LONG_AGO
            running.node.xid(0, 48)
            await api.until("True", lambda: api.conditions[TYPE]["status"] == "True")
            assert api.conditions[TYPE]["message"] == f"boot {BOOT}; Xid on {UUIDS[0]}: 48"
            why = "reason=recovery-action,xid:48 remedy=reset"
            told = f"gpu=0 uuid={UUIDS[0]} gpu-uuid={UUIDS[0]} {why}"
            message = f"boot {BOOT}; {told} held=false"
            await api.until("a holder", lambda: api.conditions[UNHEALTHY]["message"] == message)
            patches, seen = len(api.patches), len(api.requests)
            await running.restarted("cluster", running.kill("cluster"))
            look = "GET /api/v1/nodes/node-1"
            await api.until("a look at the condition", lambda: look in api.requests[seen:])
            running.node.reset(0)
            await api.until("recovery", lambda: api.conditions[TYPE]["status"] == "False")
            # The restarted process has found the conditions right, and has not sent them again.
            before, after = (
                {c["type"]: c["message"] for c in patch["status"]["conditions"]}
                for patch in api.patches[patches - 1 : patches + 1]
            )
            assert before != after
            await api.until("an Event of it", lambda: api.told("GpuHealthy"))
            assert api.conditions["Ready"] == other

    asyncio.run(story())


@pytest.mark.parametrize("trouble", ["down", "hangs", "403", "500"])
def test_a_broken_api_server_does_no_harm(folder: Path, trouble: str) -> None:
    """When the API server fails, this is logged once, GPUs are served, and the Events are sent when
    the API server works again.
    """

    async def story() -> None:
        async with apiserver() as api:
            if trouble == "down":
                await api.stop()
            api.hang = trouble == "hangs"
            api.status = int(trouble) if trouble.isdecimal() else 0
            async with started(folder, api, "--node-events") as (node, running):
                running.node.xid(0, 79)
                await node.until(lambda k: k.healthy(GPU) == 1)
                told = await running.logged("cannot use the Kubernetes API", use="events")
                assert trouble in {"down", "hangs"} or told["reason"].startswith(trouble)
                assert (node.resources[GPU].lists, node.registrations) == (2, 1)
                api.hang, api.status = False, 0
                if trouble == "down":
                    await api.start()
                await api.until("Events", lambda: len(api.events) == 2)
                await running.logged("the Kubernetes API answers again")
                assert running.count("cannot use the Kubernetes API") == 1
                assert running.count("process ended, restarting it") == 0
                assert await running.stop() == 0

    asyncio.run(story())


def test_without_lightkube_the_log_says_what_to_install(folder: Path) -> None:
    """Without lightkube, the cluster process ends at once and the log says what to install."""

    async def story() -> None:
        code = (
            "import sys, importlib.util as u; real = u.find_spec\n"
            "u.find_spec = lambda n, *a: None if n == 'lightkube' else real(n, *a)\n"
            "from supervisor.main import main; sys.exit(main(sys.argv[1:]))"
        )
        arguments = ("run", f"--runtime-dir={folder}", "--node-name=n", "--node-events")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 2
        assert said.decode().count("\n") == 1
        assert "install gpu-sharing-plugin[cluster]" in said.decode()

    asyncio.run(story())


def test_without_the_flags_no_cluster_process_runs(folder: Path) -> None:
    """A node name alone starts no process and sends no request; with the flags the cluster process
    runs.
    """

    async def story() -> None:
        async with apiserver() as api:
            async with started(folder, api) as (_, running):
                await running.runs("monitor", "exporter", f"worker {GPU}")
                assert await running.stop() == 0
            assert not api.requests
            why = "its memory is measured"
            async with started(folder, api, "--node-condition", exec_because=why) as (_, running):
                await api.until("a condition", lambda: api.patches)
                await until(lambda: "cluster" in running.pids(), "a process for the cluster")
                pss = _pss(running.pids()["cluster"])
                FIGURES.append(f"the process for the Kubernetes API: {pss:.1f} MiB PSS")

    asyncio.run(story())


@pytest.mark.parametrize("wanted", [True, False])
def test_the_client_is_loaded_only_where_it_is_wanted(wanted: bool) -> None:  # noqa: FBT001
    """The supervisor imports lightkube only if a setting needs the Kubernetes API."""
    code = (
        "import sys; from supervisor.preload import preload; "
        f"preload((), api_client={wanted}); sys.exit(('lightkube' in sys.modules) is not {wanted})"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE).returncode == 0
    )


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
