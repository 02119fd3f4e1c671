"""`simulate`: the whole service on a simulated node with a stand-in kubelet, to look at and to try.

The service runs as it always does, in processes of its own; this process is the kubelet, the pods
and the onlooker.
"""

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proto.host import die_with
from simulator.kubelet import AdmissionError, Kubelet

READY_WITHIN = 30.0
"""Seconds until every resource should have listed its devices."""

SETTLED = 0.3
"""Seconds without a further resource after which the node counts as fully registered."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What to run, and where."""

    command: Sequence[str]
    """The service, without the options that name the folders."""
    folder: Path
    """Holds the runtime folder and the kubelet's."""
    duration: float | None
    """Seconds until the end; None: until a signal."""

    @property
    def plugins(self) -> Path:
        """The stand-in kubelet's plugin folder."""
        return self.folder / "device-plugins"


def main(command: Sequence[str], folder: Path, duration: float | None) -> int:
    """Run the service given by *command* and tell what happens; see `Simulation`."""
    return asyncio.run(simulate(Simulation(command, folder, duration)))


async def simulate(simulation: Simulation) -> int:
    """Start everything, admit a few pods, follow what changes, stop everything."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    service = await _start(simulation)
    kubelet = Kubelet(simulation.plugins)
    await kubelet.start()
    _stop_when_unread(stopped)
    story = asyncio.create_task(_story(kubelet, simulation.folder))
    ends = [asyncio.create_task(stopped.wait()), asyncio.create_task(service.wait()), story]
    await asyncio.wait(ends, timeout=simulation.duration, return_when=asyncio.FIRST_COMPLETED)
    for task in (story, ends[0]):
        task.cancel()
    failed = service.returncode
    if failed is None:
        service.terminate()
    code = await service.wait()
    await kubelet.stop()
    await _end_of(story)
    if failed is not None:
        return failed
    # Before it listens to signals, it dies of the one that asks it to stop.
    return 0 if code == -signal.SIGTERM else code


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


async def _start(simulation: Simulation) -> asyncio.subprocess.Process:
    parent = os.getpid()
    return await asyncio.create_subprocess_exec(
        *simulation.command,
        f"--runtime-dir={simulation.folder}",
        f"--state-dir={simulation.folder}/state",
        f"--device-plugin-path={simulation.plugins}",
        f"--pod-resources-socket={simulation.folder}/pod-resources.sock",
        preexec_fn=lambda: die_with(parent),
        start_new_session=True,  # Ctrl-C is for this process, which then stops the service
    )


async def _story(kubelet: Kubelet, folder: Path) -> None:
    """Tell what happens at the kubelet."""
    await kubelet.until(lambda k: bool(k.resources), READY_WITHIN)
    with contextlib.suppress(TimeoutError):
        while True:  # one resource after the other comes
            await asyncio.wait_for(kubelet.changed(), SETTLED)
    for resource in kubelet.resources.values():
        count, healthy = len(resource.devices), len(resource.healthy())
        say(
            "registered",
            f"{resource.name}: {count} devices, {healthy} healthy ({resource.endpoint})",
        )
    await _admit_pods(kubelet)
    url = folder / "exporter.url"
    say("metrics", f"{url.read_text()}/metrics" if url.exists() else "not served yet")
    say("status", f"{url.read_text()}/" if url.exists() else "not served yet")
    say("try", f"gpu-sharing-plugin drill xid 79 --gpu 0 --runtime-dir {folder}")
    say("following", "what changes from here on; Ctrl-C ends")
    shown = _health(kubelet)
    while True:
        await kubelet.changed()
        for name, unhealthy in (now := _health(kubelet)).items():
            if unhealthy != shown.get(name):
                total = len(kubelet.resources[name].devices)
                names = ", ".join(unhealthy) or "none"
                say(
                    "changed",
                    f"{name}: {total - len(unhealthy)} of {total} healthy; unhealthy: {names}",
                )
        shown = now


async def _admit_pods(kubelet: Kubelet) -> None:
    for name in list(kubelet.resources):
        for number, count in enumerate((1, 2), start=1):
            pod = f"pod-{number}"
            try:
                got = await kubelet.admit(f"{name}/{pod}", name, count)
            except AdmissionError as error:
                say("rejected", f"{pod} {name}={count}: {error}")
                continue
            say("admitted", f"{pod} {name}={count}: {', '.join(got.ids)}")
            for variable, value in got.envs.items():
                say("", f"{variable}={value}")


def _health(kubelet: Kubelet) -> dict[str, tuple[str, ...]]:
    return {
        resource.name: tuple(sorted(resource.devices.keys() - set(resource.healthy())))
        for resource in kubelet.resources.values()
    }


def say(what: str, text: str) -> None:
    """Print one line of the story."""
    print(f"{what:<10}  {text}", flush=True)  # noqa: T201 - this is the command's result
