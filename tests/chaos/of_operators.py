"""Actions of operators and of strangers: maintenance, configuration, and garbage on the sockets."""

import asyncio
import contextlib
import itertools
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import zmq

from proto import requests
from proto.messages import Inventory, NodeState, WorkerState, encode
from proto.requests import Quiesce, Resume
from supervisor.commands.ask import ask
from tests.chaos.kinds import fault
from tests.chaos.stage import CONFIGURATION, LABEL, POLL, RESOURCES, configuration
from tests.chaos.world import World, said

LOOK = 1.0
"""Seconds until the service notices a changed configuration file."""


@fault("quiesce and resume", "operator", promise=1.0, back=2.0 + POLL, weight=3)
async def quiesce(world: World, dice: Random) -> AsyncIterator[None]:
    """Run quiesce, and later resume."""
    world.absent.add("monitor")
    await asyncio.to_thread(ask, world.folder, Quiesce())
    world.quiesced = True
    world.happens()
    yield
    await asyncio.sleep(dice.uniform(0.0, 0.5))
    await asyncio.to_thread(ask, world.folder, Resume())
    world.quiesced = False
    world.absent.discard("monitor")
    world.happens()


@fault("good configuration", "operator", promise=LOOK + 1.0, weight=4)
async def good(world: World, dice: Random) -> AsyncIterator[None]:
    """Change the number of replicas; sometimes by moving a link, as in a ConfigMap volume."""
    world.replicas = dice.choice([n for n in (1, 2, 3, 5) if n != world.replicas])
    text = configuration(world.replicas)
    if dice.random() < 0.5:
        world.configure(text)
    else:
        version = world.folder / f"..data_{dice.randrange(10**9)}"
        version.mkdir()
        (version / CONFIGURATION).write_text(text)
        link = world.folder / "config.link"
        link.symlink_to(version / CONFIGURATION)
        link.replace(world.configurations / CONFIGURATION)
    world.happens()
    yield


@fault("bad configuration", "operator", promise=LOOK + 0.5, back=LOOK + 0.5, weight=3)
async def bad(world: World, dice: Random) -> AsyncIterator[None]:
    """Write a bad or incomplete configuration; the old one must stay in use."""
    before = configuration(world.replicas)
    seen = len(world.running.entries)
    # No text twice: the service logs a problem once, and may not read the good one in between.
    number = dice.randrange(1, 1_000_000)
    texts = (
        f"health: {{staleAfter: soon{number}}}\n",
        "#" * (number % 997) + "\x00\xff",
        "\n" * (number % 997) + "]",
        "\n" * (number % 997) + before[: len(before) // 2] + "{",
        f"a{number}: b",
        f"health: {{staleAfter: 0.00{number}s}}\n",
        f"flags: {{plugin: {{containerDriverRoot: /{number}{'a' * 300}}}}}\n",
        f'flags: {{nvidiaDriverRoot: "/{number}\\0"}}\n',
        "[" * (2000 + number % 997),
    )
    world.configure(dice.choice(texts))
    world.happens()
    await refused(world, seen)
    yield
    world.configure(before)
    world.happens()


async def refused(world: World, seen: int) -> None:
    """Wait until the service has refused the configuration, after so many log entries."""
    await world.until(
        lambda: said(
            world.running.entries[seen:], "cannot use the new configuration, keeping the old one"
        ),
        "log line about the bad configuration",
    )


FLIP = 0.1
"""Seconds between two changes of the label: less than it takes to read the large file."""


@fault("flapping label", "label", promise=LOOK + 2.0, back=2 * LOOK + 2.0)
async def flapping_label(world: World, dice: Random) -> AsyncIterator[None]:
    """Change the node's label all the time, between two files that advertise the same devices."""
    other = configuration(world.replicas, absent=dice.choice((1, 2000)))
    put(world.configurations / "other", other)

    async def flap() -> None:
        for name in itertools.cycle(("other", CONFIGURATION)):
            await world.api.label(LABEL, name)
            await asyncio.sleep(FLIP)

    task = asyncio.create_task(flap())
    try:
        await asyncio.sleep(dice.uniform(0.5, 3.0))
        world.happens()
        await asyncio.to_thread(ask, world.folder, Resume())  # the supervisor answers meanwhile
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await world.api.label(LABEL, CONFIGURATION)
    world.happens()


@fault("damaged node file", "operator", promise=1.0, back=1.0)
async def damaged(world: World, dice: Random) -> AsyncIterator[None]:
    """Damage the file of the simulated node, and reload: the configuration cannot be composed."""
    file = world.folder / "node.json"
    whole, seen = file.read_text(), len(world.running.entries)
    put(file, f"{whole[:-1]}{dice.randrange(10**6)}")
    world.running.process.send_signal(signal.SIGHUP)
    world.happens()
    await refused(world, seen)
    yield
    put(file, whole)
    world.running.process.send_signal(signal.SIGHUP)
    world.happens()


def put(file: Path, text: str) -> None:
    """Replace the content of a file in one step."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@fault("garbage on the control socket", "bus", promise=0.5, weight=2)
async def garbage_on_control(world: World, dice: Random) -> AsyncIterator[None]:
    """Send garbage from many clients, some of which disconnect or send nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(dice.randint(1, 20)):
            end = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            end.setblocking(False)
            with contextlib.suppress(OSError):
                end.connect(str(world.folder / requests.SOCKET))
                if dice.random() < 0.7:
                    end.send(dice.randbytes(dice.randint(1, requests.LIMIT)))
        world.happens()
        yield


def stale(dice: Random) -> bytes:
    """Return an old message of a worker."""
    return encode(
        WorkerState(
            epoch=0,
            sequence=dice.randint(0, 9),
            resource=dice.choice(RESOURCES),
            registered=False,
            registrations=0,
            streams=0,
            healthy=0,
            unhealthy=99,
        )
    )


@fault("garbage on the telemetry bus", "bus", promise=0.5, weight=3)
async def garbage_on_telemetry(world: World, dice: Random) -> AsyncIterator[None]:
    """Send garbage, pieces of messages, and old messages, repeated and in any order."""
    with zmq.Context() as context, context.socket(zmq.PUB) as end:
        end.linger = 0
        end.connect(f"ipc://{world.folder}/telemetry.ipc")
        await asyncio.sleep(0.1)
        for _ in range(50):
            old = stale(dice)
            node = encode(NodeState(epoch=0, sequence=1, inventory=Inventory("", ()), health=()))
            for message in (old, old, old[: len(old) // 2], node[:9], dice.randbytes(300), b""):
                end.send(message, zmq.NOBLOCK)
        await asyncio.sleep(0.1)
    world.happens()
    yield


@fault("garbage on the health bus", "bus", promise=0.5, weight=2)
async def garbage_on_health(world: World, dice: Random) -> AsyncIterator[None]:
    """Join and leave the monitor's bus many times, and send invalid subscriptions."""
    for _ in range(dice.randint(1, 10)):
        with zmq.Context() as context, context.socket(zmq.XSUB) as end:
            end.linger = 0
            end.connect(f"ipc://{world.folder}/health.ipc")
            for message in (b"\x01", b"\x01topic", b"\x00nothing", dice.randbytes(500), b""):
                end.send(message, zmq.NOBLOCK)
            await asyncio.sleep(0.01)
    world.happens()
    yield
