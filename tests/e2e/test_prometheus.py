"""A running service and a real Prometheus: series, alerts, dashboard, attribution to pods."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from proto import deviceplugin_pb2 as api
from simulator.kubelet import Kubelet as StandIn
from simulator.usage import FIRST_PID, Use
from tests.e2e.conftest import StartPlugin
from tests.e2e.kubelet import POD_RESOURCES_SOCKET, Kubelet
from tests.e2e.prometheus import Prometheus, Series, dashboard_queries, free_port, tool
from tests.e2e.test_prometheus_rules import promtool
from tests.fakes.mps_trees import GPU, REPLICAS, Host, mps_host
from tests.fakes.service import Service, kubelet, service, short_folder, until

pytestmark = pytest.mark.e2e

SHARED = "nvidia.com/sharedgpu"
MIG = "nvidia.com/mig-1g.10gb"
FIRST, SECOND, THIRD = (f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(3))
NODE: dict[str, object] = {"gpus": [{}, {}, {"mig": ["1g.10gb", "1g.10gb"]}]}
CONFIGURATION = "version: v1\nhealth: {pollInterval: 200ms, hangAfter: 3s}\n"
ONE_LIFE = "xid|rpc|nvml_call|nvml_errors|build_info"
"""Series that start again with their process: counters, and information about the driver."""

STRANGERS = (
    (0, Use(100)),
    (0, Use(100, pod="ml/stray")),
    (0, Use(100, pid=FIRST_PID - 1)),
    (2, Use(100, mig=0)),
)
"""Users of the GPUs that hold none: the host, a pod, a process that has ended, and on a device
that is free.
"""

UNKNOWN = api.AllocateRequest(
    container_requests=[api.ContainerAllocateRequest(devices_ids=["GPU-none"])]
)
"""A call that is refused."""

OPTIONS = ("--resource-config=gpu:sharedgpu:2", "--mig-strategy=mixed")


@dataclass(frozen=True, slots=True)
class Scene:
    """A service, its kubelet, and the Prometheus that scrapes the service."""

    node: StandIn
    service: Service
    prometheus: Prometheus

    async def query_is(self, expression: str, *values: float) -> None:
        """Wait until the result of *expression* has exactly these values."""

        async def holds() -> bool:
            answer = await asyncio.to_thread(self.prometheus.query, expression)
            return sorted(sample.value for sample in answer) == sorted(values)

        await until(holds, f"{expression}: {values}")

    async def fires(self, name: str, **labels: str) -> None:
        """Wait until the alert *name* with these *labels* fires."""
        wanted = {("alertname", name), *labels.items()}

        async def fired() -> bool:
            return any(wanted <= alert for alert in await asyncio.to_thread(self.prometheus.alerts))

        await until(fired, f"{name} {labels}")

    async def scraped(self) -> None:
        """Wait until Prometheus has stored a scrape that started after this call."""
        await self.query_is(f"min(timestamp(gpu_sharing_build_info)) > bool {time.time()}", 1)


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Run everything on a node with two shared GPUs and one in MIG mode, all scraped."""
    (folder / "config.yaml").write_text(CONFIGURATION)
    address = f"127.0.0.1:{free_port()}"  # stays the same when the exporter restarts
    options = (*OPTIONS, f"--config-file={folder}/config.yaml", f"--metrics-address={address}")
    async with kubelet(folder) as node, service(folder, *options, node=NODE) as running:
        await node.until(lambda k: k.healthy(SHARED) == 4 and k.healthy(MIG) == 2)
        await running.ready()
        with prometheus(folder, address) as server:
            yield Scene(node, running, server)


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Run Prometheus on *target*, and require that it has logged no problem."""
    (folder / "prometheus").mkdir()
    server = Prometheus(folder / "prometheus", target)
    try:
        yield server
        assert server.problems() == []
    finally:
        server.stop()


def tell(story: Callable[[Scene], Awaitable[None]]) -> None:
    """Run *story* with such a scene."""
    tool("prometheus")

    async def whole() -> None:
        with short_folder() as folder:
            async with scene(folder) as stage:
                await story(stage)

    asyncio.run(whole())


def test_a_broken_gpu_that_a_pod_holds_is_one_alert_with_the_pod() -> None:
    """After an Xid 79, only its GPU is unhealthy, the Xid counts one, and one alert fires."""

    async def story(stage: Scene) -> None:
        await stage.query_is("sum(gpu_sharing_device_healthy)", 5)
        await stage.query_is('ALERTS{alertstate="firing"}')  # one fires until the first scrape
        (held,) = (await stage.node.admit("train", SHARED, 1)).ids
        uuid = held.partition("::")[0]
        index = (FIRST, SECOND).index(uuid)
        await stage.query_is("count(gpu_sharing_allocation_info)", 1)
        stage.service.node.xid(index, 79)
        await stage.query_is("gpu_sharing_device_healthy == 0", 0)
        await stage.query_is(f'gpu_sharing_device_healthy{{uuid="{uuid}"}}', 0)
        await stage.query_is(f'gpu_sharing_xid_errors_total{{uuid="{uuid}", xid="79"}}', 1)
        await stage.query_is(f'gpu_sharing_devices{{resource="{SHARED}", health="Unhealthy"}}', 2)
        await stage.fires("GpuSharingDeviceUnhealthy", uuid=uuid, index=str(index))
        await stage.scraped()
        alerts = stage.prometheus.firing()  # HeldIdle waits for an hour, but not here
        (alert,) = (a for a in alerts if a["labels"]["severity"] != "info")
        assert f"GPU {index} (" in alert["annotations"]["summary"]
        assert " on node-a is out of service: " in alert["annotations"]["summary"]
        assert alert["annotations"]["description"].endswith("(1): simulated/train.")

    tell(story)


def test_a_restart_of_any_process_changes_no_series() -> None:
    """Killing a process changes no series: none is lost and no new one appears."""

    async def story(stage: Scene) -> None:
        await stage.node.admit("pod", SHARED, 1)
        stage.service.node.xid(0, 79)
        await stage.query_is("sum(gpu_sharing_xid_errors_total)", 1)
        await stage.query_is("sum(gpu_sharing_devices_allocated)", 1)
        before = await _series(stage)
        for name in ("monitor", f"worker {SHARED}", "exporter"):
            old = stage.service.kill(name)
            await stage.service.restarted(name, old)
            await stage.query_is(f'gpu_sharing_process_restarts_total{{process="{name}"}}', 1)
            await stage.service.ready()
            await stage.query_is("sum(gpu_sharing_registered)", 2)
            await stage.query_is("sum(gpu_sharing_devices_allocated)", 1)
            await stage.scraped()
        assert await _series(stage) == before
        assert await _series(stage, "[5m]") == before

    tell(story)


async def _series(stage: Scene, window: str = "") -> set[Series]:
    """Return our series, now or over a window, without those that start again with a process."""
    await stage.scraped()
    series = f'{{__name__=~"gpu_sharing_.+", __name__!~"gpu_sharing_({ONE_LIFE}).*"}}'
    expression = f"last_over_time({series}{window})" if window else series
    return {s.series for s in await asyncio.to_thread(stage.prometheus.query, expression)}


def let_strangers_in(stage: Scene) -> None:
    """Let processes use GPUs that they do not hold."""
    for place, use in STRANGERS:
        stage.service.node.use(place, use)


async def cause_trouble(stage: Scene) -> None:
    """Refuse a call, kill a worker, and let GPUs fail in all ways."""
    with pytest.raises(grpc.aio.AioRpcError):
        await stage.node.resources[SHARED].stub.Allocate(UNKNOWN)
    old = stage.service.kill(f"worker {MIG}")
    await stage.service.restarted(f"worker {MIG}", old)
    stage.service.node.lose(1)
    await stage.query_is("sum(gpu_sharing_nvml_errors_total) > bool 0", 1)
    stage.service.node.hang(2)
    await stage.query_is("gpu_sharing_nvml_hangs_total > bool 0", 1)
    before = len(stage.service.entries)
    stage.service.node.recover(2)
    await stage.service.logged("the driver answers again", after=before)
    stage.service.node.xid(0, 79)
    stage.service.node.slow_down(0, 700)
    stage.service.node.lose(2)


def test_every_panel_of_the_dashboard_has_data() -> None:
    """After all kinds of events, every query of the dashboards succeeds and has a result.

    But for those of MPS, which this node does not share by.
    """

    async def story(stage: Scene) -> None:
        await stage.query_is("sum(gpu_sharing_device_healthy)", 5)
        await stage.node.admit("pod", SHARED, 1)
        empty = {name for name in dashboard_queries() if "MPS" not in name}

        def all_shown(panel: str = "") -> bool:
            for name, expression in dashboard_queries().items():
                if name in empty and stage.prometheus.query(expression):
                    empty.discard(name)
            return not any(name.startswith(panel) for name in empty)

        let_strangers_in(stage)
        await until(lambda: all_shown("Memory of others"), "the memory of others")
        await cause_trouble(stage)
        with contextlib.suppress(AssertionError):  # the assertion below names the panels
            await until(all_shown, "data in every panel")
        assert empty == set()
        holders = stage.prometheus.query(dashboard_queries()["Containers that hold devices A"])
        named = {(holder.labels["namespace"], holder.labels["pod"]) for holder in holders}
        assert named == {("simulated", "pod")}  # not the plugin's pod, which Prometheus scrapes

    tell(story)


def test_every_panel_of_mps_has_data(tmp_path: Path) -> None:
    """With devices that MPS shares, the panels about their daemons have data."""
    tool("prometheus")
    queries = {name: query for name, query in dashboard_queries().items() if "MPS" in name}
    assert len(queries) == 3

    async def story(host: Host) -> None:
        async with kubelet(host.folder) as node, host.plugin() as plugin, host.tree():
            await node.until(lambda k: k.healthy(GPU) == len(host.uuids) * REPLICAS)
            await plugin.ready()
            with prometheus(tmp_path, plugin.url()) as server:
                empty = set(queries)

                def all_shown(but: str = "") -> bool:
                    empty.difference_update(n for n in set(empty) if server.query(queries[n]))
                    return all(name.startswith(but) for name in empty) if but else not empty

                await until(lambda: all_shown("Restarts"), "data in the others")
                os.kill(host.running()[0], signal.SIGKILL)
                await until(all_shown, "a restart")

    with mps_host() as made:
        asyncio.run(story(made))


def test_promtool_accepts_the_metrics() -> None:
    """Promtool accepts the names, units and help texts of the metrics."""

    async def story(stage: Scene) -> None:
        stage.service.node.xid(0, 79)
        await stage.query_is("sum(gpu_sharing_xid_errors_total)", 1)
        _, text = await stage.service.get("/metrics")
        assert promtool("check", "metrics", text=text) == ""

    tell(story)


def test_a_pod_of_the_real_kubelet_is_named(
    kubelet: Kubelet, plugin: StartPlugin, tmp_path: Path
) -> None:
    """PromQL finds the pod to which the real kubelet gave a replica, with its GPU."""
    tool("prometheus")
    node_file = tmp_path / "node.yaml"
    node_file.write_text(json.dumps({"gpus": [{}, {}]}))
    running = plugin(
        node_file,
        "--resource-config=gpu:sharedgpu:2",
        f"--pod-resources-socket={POD_RESOURCES_SOCKET}",
    )
    running.wait_until(lambda: len(kubelet.healthy_devices(SHARED)) == 4, "4 replicas")
    kubelet.run_pod("one", SHARED, 1)
    kubelet.wait_for_phase("one", "Running")
    (held,) = kubelet.allocated("one")[SHARED]
    uuid, _, replica = held.partition("::")
    allocation = (
        f'gpu_sharing_allocation_info{{exported_namespace="default", exported_pod="one-e2e",'
        f' exported_container="main", resource="{SHARED}", uuid="{uuid}", replica="{replica}"}}'
    )
    with prometheus(tmp_path, running.url()) as server:
        running.wait_until(lambda: server.query(allocation), "the pod is named")
        running.wait_until(
            lambda: [s.value for s in server.query("sum(gpu_sharing_devices_allocated)")] == [1],
            "one replica counts as allocated",
        )
