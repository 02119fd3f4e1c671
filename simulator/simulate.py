"""`simulate`: run the whole service on a simulated node with a stand-in kubelet, to try it out.

The service runs in its own processes, as always; this process plays the kubelet and the pods, and
prints what happens.
"""

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.kubelet import AdmissionError, Kubelet
from simulator.live_node import LiveNode
from simulator.pod_usage import use_devices
from simulator.pods import NAMESPACE, pod_name
from simulator.trees import Simulation, Trees

READY_WITHIN = 30.0
"""Seconds to wait for the first resource to register."""

EXPORTER_WITHIN = 5.0
"""Seconds to wait for the exporter after the first resource."""

DAEMONS_WITHIN = 10.0
"""Seconds to wait for the MPS daemons before pods come; a GPU of the node may be faulty."""

COMMAND = "gpu-sharing-plugin"

CUDA_MPS = "CUDA_MPS_PIPE_DIRECTORY"
"""A container with this variable is a client of an MPS daemon."""

COUNTS, COUNTS_BY_MPS = (1, 2), (1, 1)
"""Devices that each pod requests; by default MPS allows one in a container."""

MOST = 8
"""The most GPUs and MIG instances that a line names."""

SETTLED = 0.3
"""Seconds without a new resource after which all resources count as registered."""


def main(simulation: Simulation) -> int:
    """Run the service and print what happens."""
    return asyncio.run(simulate(simulation))


async def simulate(simulation: Simulation) -> int:
    """Start the service and the kubelet, admit a few pods, print changes, and stop both."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    trees = Trees()
    await trees.start(simulation)
    kubelet = Kubelet(simulation.plugins)
    await kubelet.start()
    _stop_when_unread(stopped)
    story = asyncio.create_task(_story(kubelet, simulation))
    ends = [asyncio.create_task(stopped.wait()), asyncio.create_task(trees.one_ends())]
    await asyncio.wait(
        [*ends, story], timeout=simulation.duration, return_when=asyncio.FIRST_COMPLETED
    )
    for task in (story, *ends):
        task.cancel()
    code = await trees.stop()
    await kubelet.stop()
    await _end_of(story)
    return code


def _stop_when_unread(stopped: asyncio.Event) -> None:
    """Set *stopped* when nobody reads the story any more, as in `| head`, between lines too."""
    if sys.stdout is None or not stat.S_ISFIFO(os.fstat(1).st_mode):
        return  # a file is never done with, and a terminal that is gone sends SIGHUP
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(1)
        stopped.set()

    loop.add_reader(1, stop)


async def _end_of(story: asyncio.Task[None]) -> None:
    """Wait until the cancelled *story* is over; that nobody has read it is no failure."""
    try:
        await story
    except asyncio.CancelledError:
        pass
    except BrokenPipeError:
        # What could not be printed goes there, or the interpreter would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


async def _story(kubelet: Kubelet, simulation: Simulation) -> None:
    """Print what happens at the kubelet."""
    await kubelet.until(lambda k: bool(k.resources), READY_WITHIN)
    with contextlib.suppress(TimeoutError):
        while True:  # resources register one after the other
            await asyncio.wait_for(kubelet.changed(), SETTLED)
    if simulation.mps_root:
        with contextlib.suppress(TimeoutError):
            await kubelet.until(_all_healthy, DAEMONS_WITHIN)
    for resource in kubelet.resources.values():
        count, healthy = len(resource.devices), len(resource.healthy())
        say(
            "registered",
            f"{resource.name}: {_devices(count)}, {healthy} healthy ({resource.endpoint})",
        )
    folder = simulation.folder
    await _admit_pods(kubelet, LiveNode(folder), COUNTS_BY_MPS if simulation.mps_root else COUNTS)
    url = await _url(folder / "exporter.url")
    say("metrics", f"{url}/metrics" if url else "not served; see the log")
    say("status", f"{url}/" if url else "not served; see the log")
    fault = "mps-fault" if simulation.mps_root else "xid 79"
    say("try", f"{_command()} drill {fault} --gpu 0 --runtime-dir {folder}")
    say("following", "printing every change from now on; press Ctrl-C to stop")
    shown = _known(kubelet)
    while True:
        await kubelet.changed()
        for name, now in (known := _known(kubelet)).items():
            if now != (before := shown.get(name, DeviceList())):
                say("changed", f"{name}: {change(before, now)}")
        shown = known


def _all_healthy(kubelet: Kubelet) -> bool:
    known = kubelet.resources.values()
    return all(len(resource.healthy()) == len(resource.devices) for resource in known)


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _command() -> str:
    """Return how this command was called, so that `try` can be copied."""
    return sys.argv[0] if Path(sys.argv[0]).name == COMMAND else COMMAND


async def _url(file: Path) -> str:
    """Return the exporter's URL, empty if the exporter cannot serve.

    The exporter starts a little later than the workers.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EXPORTER_WITHIN):
            while not (url := _content(file)):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
            return url
    return ""


def _content(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def _admit_pods(kubelet: Kubelet, live: LiveNode, counts: Sequence[int]) -> None:
    for name in list(kubelet.resources):
        for number, count in enumerate(counts, start=1):
            pod = f"{name}/pod-{number}"
            # As metrics, status and `drill usage --pod` name it.
            full_name = f"{NAMESPACE}/{pod_name(pod)}"
            try:
                got = await kubelet.admit(pod, name, count)
            except AdmissionError as error:
                say("rejected", f"{full_name} {name}={count}: {error}")
                continue
            say("admitted", f"{full_name} {name}={count}: {', '.join(got.ids)}")
            kind = "mps" if CUDA_MPS in got.envs else "compute"
            use_devices(live, pod, got.ids, kubelet.resources[name].devices, kind)
            for variable, value in got.envs.items():
                say("", f"{variable}={value}")


@dataclass(frozen=True, slots=True)
class DeviceList:
    """What the kubelet knows of a resource: IDs of devices, in order."""

    devices: tuple[str, ...] = ()
    unhealthy: tuple[str, ...] = ()


def _known(kubelet: Kubelet) -> dict[str, DeviceList]:
    return {
        resource.name: DeviceList(
            tuple(sorted(resource.devices)),
            tuple(sorted(resource.devices.keys() - set(resource.healthy()))),
        )
        for resource in kubelet.resources.values()
    }


def change(before: DeviceList, now: DeviceList) -> str:
    """Return how many devices are healthy, and whose are not, have come, or are gone."""
    healthy = f"{len(now.devices) - len(now.unhealthy)} of {len(now.devices)} healthy"
    words = [f"{healthy}; unhealthy: {_by_gpu(now.unhealthy, now.devices) or 'none'}"]
    if new := set(now.devices) - set(before.devices):
        words.append(f"added: {_by_gpu(sorted(new), now.devices)}")
    if gone := set(before.devices) - set(now.devices):
        words.append(f"removed: {_by_gpu(sorted(gone), before.devices)}")
    return "; ".join(words)


def _by_gpu(some: Iterable[str], devices: Iterable[str]) -> str:
    """Return the GPUs of *some* devices, and of replicas how many of all *devices* of each GPU."""
    total, found = (Counter(name.partition("::")[0] for name in n) for n in (devices, some))
    shown = [
        uuid if total[uuid] == 1 else f"{uuid} ({found[uuid]} of {total[uuid]})" for uuid in found
    ]
    more = f" and {len(shown) - MOST} more" if len(shown) > MOST else ""
    return f"{', '.join(shown[:MOST])}{more}"


def say(what: str, text: str) -> None:
    """Print one line: what happened, and the details."""
    print(f"{what:<10}  {text}", flush=True)  # noqa: T201 - this is the command's result
