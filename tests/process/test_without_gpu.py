"""The service on a node without a GPU: ready, small and quiet, until a GPU may have come."""

import asyncio
import json
import os
import signal
from pathlib import Path

from supervisor.cluster.label_objects import MANAGER
from tests.fakes.apiserver import apiserver
from tests.fakes.service import Service, service, until

WAITING = "waiting for a GPU"
REASON = "no NVIDIA GPU on this node"
MOST = 40 << 20
"""Bytes of memory that the service may take, each page counted once."""
EXECUTED = "it replaces itself by a new process, and its memory is measured"


def options(folder: Path) -> tuple[str, ...]:
    """Return the options for a node that waits, and looks often."""
    (folder / "config.yaml").write_text("health: {rescanInterval: 100ms}")
    return (
        "--fail-on-init-error=false",
        f"--config-file={folder}/config.yaml",
        f"--driver-root-ctr-path={folder}/root",
    )


async def asked(running: Service, path: str) -> str:
    """Wait until the service answers *path* with 200; return the answer."""
    found = ""

    async def answers() -> bool:
        nonlocal found
        status, found = await running.get(path)
        return status == 200

    await until(answers, f"{path} that answers")
    return found


def memory(pid: int) -> int:
    """Return the bytes of a process, of shared pages its part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (kibibytes,) = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(kibibytes) << 10


def test_a_node_without_a_gpu(folder: Path) -> None:
    """The service is ready and says why it does nothing; it takes less than 40 MiB, and shows
    nothing that an alert is about. It ends on a signal.
    """

    async def story() -> None:
        async with service(folder, *options(folder), exec_because=EXECUTED) as running:
            told = await running.logged(WAITING)
            assert told["reason"] == REASON
            await running.logged("serving metrics", process="without GPU")
            assert json.loads(await asked(running, "/readyz"))["ok"]
            shown = json.loads(await asked(running, "/status"))
            assert (shown["ok"], shown["gpus"], shown["resources"]) == (True, [], [])
            assert shown["node"]["notices"] == [REASON]
            assert "No NVIDIA GPU on this node" in await asked(running, "/")
            metrics = await asked(running, "/metrics")
            assert 'gpu_sharing_driver_state{state="no-gpu"} 1.0' in metrics
            assert "\ngpu_sharing_health_monitor_up " not in metrics
            assert "\ngpu_sharing_pod_resources_up " not in metrics
            await until(lambda: running.pids() == {}, "no other process")
            assert memory(running.process.pid) < MOST
            assert running.count("process is not ready") == 0
            running.process.send_signal(signal.SIGTERM)
            assert await running.ended() == 0

    asyncio.run(story())


def test_what_the_cluster_was_told_is_taken_back(folder: Path) -> None:
    """Conditions, taint and labels of GPUs that the node had are gone when it comes back without
    them, also if the API server is away at first; what others wrote stays.
    """
    wrong = {"type": "GpuUnhealthy", "status": "True", "reason": "GpusUnhealthy", "message": "a"}
    others = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    ours = {"key": "nvidia.com/gpu-unhealthy", "value": "gpu-lost", "effect": "NoSchedule"}
    flags = ("--node-name=node-1", "--node-condition", "--node-taint", "--node-labels=node")

    async def story() -> None:
        async with apiserver(
            labels={"zone": "a"}, taints=[others, ours], conditions={"GpuUnhealthy": wrong}
        ) as api:
            api.managed.apply(MANAGER, {"nvidia.com/gpu.count": "2"}, force=True)
            api.status = 500
            environment = api.kubeconfig(folder)
            async with service(
                folder,
                *options(folder),
                *flags,
                exec_because=EXECUTED,
                environment=environment,
            ) as running:
                await running.logged(WAITING)
                await running.logged("cannot use the Kubernetes API", use="taint")
                api.status = 0
                await api.until("labels of others only", lambda: api.labels == {"zone": "a"})
                await api.until("taints of others only", lambda: api.taints == [others])
                await api.until(
                    "true condition", lambda: api.conditions["GpuUnhealthy"]["status"] == "False"
                )
                assert api.conditions.keys() == {"GpuUnhealthy"}
                assert "no GPU to serve" in api.conditions["GpuUnhealthy"]["message"]
                await until(lambda: running.pids() == {}, "no other process")
                assert json.loads(await asked(running, "/readyz"))["ok"]

    asyncio.run(story())


def test_the_file_with_labels_is_removed(folder: Path) -> None:
    """The file that node feature discovery reads goes too, as it may never expire."""
    file = folder / "features.d/gpu-sharing-plugin"
    file.parent.mkdir()
    file.write_text("nvidia.com/gpu.count=2\n")
    flags = ("--node-labels=file", f"--node-labels-file={file}")

    async def story() -> None:
        async with service(folder, *options(folder), *flags, exec_because=EXECUTED) as running:
            await running.logged(WAITING)
            assert not file.exists()

    asyncio.run(story())


def test_what_may_be_a_gpu_ends_the_wait(folder: Path) -> None:
    """The process exits, so that the service starts with all its processes."""

    async def story() -> None:
        async with service(folder, *options(folder), exec_because=EXECUTED) as running:
            await running.logged(WAITING)
            await running.logged("serving metrics", process="without GPU")
            place = folder / "root/usr/lib64"
            place.mkdir(parents=True)
            os.link(__file__, place / "libnvidia-ml.so.1")
            await running.logged("exiting: this node may have a GPU now")
            assert await running.ended() == 1

    asyncio.run(story())


def test_fail_on_init_error_counts_here_too(folder: Path) -> None:
    """With failOnInitError, as by default, a node without a GPU ends the service."""

    async def story() -> None:
        async with service(folder) as running:
            told = await running.logged("process is not ready")
            assert told["reason"].startswith(f"{REASON}; cannot call nvmlInit")
            await running.logged("exiting because failOnInitError is true")
            assert await running.ended() == 1

    asyncio.run(story())
