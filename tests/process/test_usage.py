"""How much of each GPU is in use, through nvidia-ml-py and the C library."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from proto.exporter import UsageRoots
from proto.messages import NodeState, UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.exporter.usage_processes import find
from supervisor.status.usage_owner import HOST, Owner, OwnerKind
from tests.fakes import nvml_library
from tests.fakes.nvml_library import GPU_UUIDS, MIG_INSTANCES, MIG_UUIDS
from tests.fakes.onlooker import drill, simulate
from tests.fakes.service import Service, kubelet, service
from tests.process.test_one_bad_gpu import BAD, UUIDS, all_watched, reasons, started, unhealthy

GPU = "nvidia.com/gpu"
MIB = 1 << 20
QUICK = "health: {pollInterval: 200ms}\nusage: {interval: 1s}\n"
LISTS = "nvmlDeviceGetComputeRunningProcesses"
FIGURES = (
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    f"{LISTS}_v3",
)


def processes(state: UsageState, uuid: str) -> tuple[GpuProcess, ...] | None:
    """Return the processes of a GPU or MIG instance."""
    return next((device.processes for device in state.devices if device.uuid == uuid), None)


def made(state: NodeState, calls: tuple[str, ...] = FIGURES) -> dict[str, int]:
    """Return how often the monitor made these calls."""
    return {stats.call: stats.count for stats in state.calls if stats.call in calls}


def standin(folder: Path, library: Path, **conditions: str) -> dict[str, str]:
    """Return the environment of a service that uses the stand-in library."""
    settings = {f"STANDIN_NVML_{name}": value for name, value in conditions.items()}
    paths = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
    return {**paths, **settings}


def option(folder: Path, configuration: str = QUICK) -> str:
    """Write the configuration file, and return the option that names it."""
    (folder / "config.yaml").write_text(configuration)
    return f"--config-file={folder}/config.yaml"


def test_usage_of_a_gpu(folder: Path, library: Path) -> None:
    """A GPU has its figures and its processes; a process that ends is gone."""

    async def story() -> None:
        environment = standin(folder, library)
        async with service(folder, option(folder), environment=environment) as running:
            await running.logged("watching GPUs for Xid events")
            steering = nvml_library.Steering(folder)
            steering.use(0, 4711, 2000, 30)
            steering.use(0, 815, 1000)
            listed = (
                GpuProcess(815, ProcessKind.COMPUTE, 1000 * MIB, 0),
                GpuProcess(4711, ProcessKind.COMPUTE, 2000 * MIB, 30),
            )
            state = await running.shows_usage(lambda s: processes(s, GPU_UUIDS[0]) == listed)
            assert state.devices[0] == DeviceUsage(
                GPU_UUIDS[0],
                state.devices[0].taken,
                utilization=30,
                memory_utilization=7,
                memory_used=3000 * MIB,
                memory_total=nvml_library.GPU_MEMORY_MIB * MIB,
                memory_reserved=605 * MIB,
                temperature=41,
                power=71.25,
                power_limit=700.0,
                sm_clock=1980,
                memory_clock=2619,
                processes=listed,
            )
            steering.use(0, 4711, 0)
            await running.shows_usage(lambda s: processes(s, GPU_UUIDS[0]) == listed[:1])

    asyncio.run(story())


def test_usage_of_mig_instances(folder: Path, library: Path) -> None:
    """A GPU in MIG mode has its own figures, its instances have the memory and the processes."""

    async def story() -> None:
        environment = standin(folder, library)
        async with service(folder, option(folder), environment=environment) as running:
            await running.logged("watching GPUs for Xid events")
            nvml_library.Steering(folder).use(1, 99, 512, gi=MIG_INSTANCES[1][0])
            # A sample may take the memory of a device before the process is there.
            used = [512 * MIB, 0, 512 * MIB]
            state = await running.shows_usage(
                lambda s: (
                    bool(processes(s, MIG_UUIDS[1]))
                    and [device.memory_used for device in s.devices[1:]] == used
                )
            )
            parent, *instances = state.devices[1:]
            assert (parent.uuid, parent.utilization, parent.processes) == (GPU_UUIDS[1], None, None)
            assert (parent.memory_used, parent.power) == (512 * MIB, 71.25)
            assert tuple(device.uuid for device in instances) == MIG_UUIDS
            assert [device.memory_used for device in instances] == [0, 512 * MIB]
            process = GpuProcess(99, ProcessKind.COMPUTE, 512 * MIB, None)
            assert [device.processes for device in instances] == [(), (process,)]

    asyncio.run(story())


@pytest.mark.parametrize("call", [LISTS, "nvmlDeviceGetPowerUsage"])
def test_a_gpu_that_hangs_in_a_sample(folder: Path, library: Path, call: str) -> None:
    """A hang in a sample is one in a check: only that GPU is Unhealthy, until it answers again."""

    async def story() -> None:
        configuration = "health: {hangAfter: 3s, pollInterval: 200ms}\nusage: {interval: 1s}\n"
        async with kubelet(folder) as node, started(folder, library, configuration) as running:
            await all_watched(node, running)
            monitor = running.pids()["monitor"]
            steering = nvml_library.Steering(folder)
            steering.hang(BAD, call)
            told = await running.logged("the driver hangs", index=BAD)
            assert str(told["call"]).startswith(call)
            await node.until(lambda k: k.healthy(GPU) == 7)
            assert unhealthy(node) == {UUIDS[BAD]}
            state = await running.publishes(1)
            assert f"driver-hang {told['call']}" in reasons(state, BAD)
            steering.use(0, 7, 100)
            others = [uuid for uuid in UUIDS if uuid != UUIDS[BAD]]
            await running.shows_usage(
                lambda s: bool(processes(s, UUIDS[0])) and [d.uuid for d in s.devices] == others
            )
            steering.answer(BAD)
            await node.until(lambda k: k.healthy(GPU) == 8)
            await running.shows_usage(lambda s: [device.uuid for device in s.devices] == UUIDS)
            assert running.pids()["monitor"] == monitor

    asyncio.run(story())


def whose(folder: Path, state: UsageState) -> dict[Owner, int]:
    """Return the percent of all GPUs together that each owner uses."""
    root = UsageRoots(*(f"{folder}/{name}" for name in ("procfs", "logs/pods", "logs/containers")))
    found = find(state, [root])
    assert found.problem == ""
    used: Counter[Owner] = Counter()
    for device in state.devices:
        for process in device.processes or ():
            used[found.of[device.uuid, process.pid]] += process.utilization or 0
    return used


def test_the_simulated_node_shows_who_uses_it(folder: Path) -> None:
    """The pods of `simulate` use their GPUs by themselves; `drill usage` adds a pod and a host."""

    async def story() -> None:
        async with simulate(option(folder)) as seen:
            runtime = Path((await seen.line("try")).rpartition("--runtime-dir ")[2])
            running = Service(runtime, seen.process)
            pods = [f"nvidia.com-gpu-pod-{number}" for number in (1, 2)]
            own = [Owner(OwnerKind.CONTAINER, "simulated", pod, "main") for pod in pods]
            await running.shows_usage(lambda s: whose(runtime, s).keys() == {*own})
            usage = ["usage", "--gpu=7", "--memory=100", f"--runtime-dir={runtime}"]
            assert await drill(*usage, "--pod=ml/train-0", "--utilization=42") == 0
            assert await drill(*usage, "--host", "--utilization=3") == 0
            train = Owner(OwnerKind.CONTAINER, "ml", "train-0", "main")
            state = await running.shows_usage(
                lambda s: whose(runtime, s).keys() == {*own, train, HOST}
            )
            used = whose(runtime, state)
            assert (used[train], used[HOST]) == (42, 3)
            assert all(used[owner] for owner in own)

    asyncio.run(story())


async def later(running: Service, state: NodeState) -> NodeState:
    """Return a state of at least three seconds later, while the GPUs are checked on."""
    return await running.publishes(state.epoch, state.sequence + 3)


def test_what_a_gpu_does_not_support_is_asked_once(folder: Path, library: Path) -> None:
    """A GPU that supports no figure has no usage but its UUID, and is not asked again and again."""

    async def story() -> None:
        environment = standin(folder, library, WITHOUT="all")
        async with service(folder, option(folder), environment=environment) as running:
            usage = await running.shows_usage(lambda s: len(s.devices) == 2)
            assert usage.devices == tuple(DeviceUsage(d.uuid, d.taken) for d in usage.devices)
            once = dict.fromkeys(FIGURES, 2)  # two GPUs
            assert made(await running.publishes(1)) == once
            await running.shows_usage(lambda s: s.devices[0].taken > usage.devices[0].taken + 1)
            assert made(await running.publishes(1)) == once

    asyncio.run(story())


def test_sampling_is_switched_off(folder: Path, library: Path) -> None:
    """With `usage.interval: 0` the monitor asks for no figure of usage."""

    async def story() -> None:
        environment = standin(folder, library)
        configuration = "health: {pollInterval: 200ms}\nusage: {interval: 0}\n"
        options = option(folder, configuration)
        async with service(folder, options, environment=environment) as running:
            await running.logged("watching GPUs for Xid events")
            state = await running.publishes(1)
            assert made(await later(running, state)) == {}

    asyncio.run(story())
