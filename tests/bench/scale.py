"""Print what a large cluster costs: scrapes, and the requests of all nodes to the API server."""

import argparse
import asyncio
import random
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from proto.labels import LabelOutput
from tests.bench import scrape
from tests.bench.fleet import Fleet, kubeconfig
from tests.fakes import virtual_time
from tests.fakes.api_fleet import Request

OUTAGE = 600.0
"""Seconds in which the API server does not listen."""

SCRAPES = 30.0
"""Seconds between two scrapes of a node."""

RACK = 40
"""Nodes whose GPUs all fail at once."""


@dataclass(frozen=True)
class Phase:
    """What was requested in a part of the story."""

    title: str
    seconds: float
    nodes: int
    """How many took part."""
    requests: Sequence[Request]

    def peak(self, *, writes: bool) -> int:
        """Return the most requests, or only *writes*, in one second."""
        seconds = Counter(int(r.at) for r in self.requests if r.writes or not writes)
        return max(seconds.values(), default=0)


async def story(count: int, output: LabelOutput, folder: Path, phases: list[Phase]) -> None:
    """Let *count* nodes live through it all; append each phase to *phases*."""
    fleet = Fleet(count, output)
    server = fleet.server
    await server.start()

    async def phase(title: str, seconds: float, nodes: int = count) -> None:
        begun, names = len(server.record), set(fleet.names[:nodes])
        await asyncio.sleep(seconds)
        requests = [request for request in server.record[begun:] if request.node in names]
        phases.append(Phase(title, seconds, nodes, requests))

    with kubeconfig(server, folder):
        fleet.start()
        await phase("first start, all nodes in the same second", 60)
        await asyncio.sleep(600)
        await phase("calm", 600)
        await server.stop()
        await server.start()
        await phase("the API server restarts", 60)
        await asyncio.sleep(300)
        await server.stop()
        await asyncio.sleep(OUTAGE)
        await server.start()
        await phase(f"after an outage of {OUTAGE / 60:.0f} minutes", 300)
        await fleet.stop()
        fleet.start()
        await phase("restart, all nodes in the same second", 60)
        await asyncio.sleep(60)
        fleet.fail(fleet.nodes[:RACK])
        await phase(f"all GPUs of {min(RACK, count)} nodes fail", 60, min(RACK, count))
        await fleet.stop()
    await server.stop()


def rows(phases: Sequence[Phase], size: int) -> Iterator[str]:
    """Yield the lines of a Markdown table for a cluster of *size* nodes."""
    yield "| | requests a second, mean | peak | writes, mean | peak | KiB/s up, down |"
    yield "|---|---:|---:|---:|---:|---:|"
    for phase in phases:
        factor = 1.0 if phase.title.startswith("all GPUs") else size / phase.nodes
        writes = [request for request in phase.requests if request.writes]
        mean = factor / phase.seconds
        up, down = (sum(getattr(r, way) for r in phase.requests) for way in ("up", "down"))
        cells = (
            phase.title,
            f"{mean * len(phase.requests):.0f}",
            f"{factor * phase.peak(writes=False):.0f}",
            f"{mean * len(writes):.0f}",
            f"{factor * phase.peak(writes=True):.0f}",
            f"{mean * up / 1024:.0f}, {mean * down / 1024:.0f}",
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "| requests of each node | " + " | ".join(phase.title for phase in phases) + " |"
    yield "|---|" + "---:|" * len(phases)
    for kind in sorted({request.kind for phase in phases for request in phase.requests}):
        found = [sum(r.kind == kind for r in p.requests) / p.nodes for p in phases]
        yield f"| {kind} | " + " | ".join(f"{number:.2f}" for number in found) + " |"


def simulate(count: int, size: int) -> None:
    """Print tables of what *count* nodes request, scaled to *size* nodes."""
    for output in (LabelOutput.NODE, LabelOutput.NODEFEATURE):
        random.seed(1)
        phases: list[Phase] = []
        with tempfile.TemporaryDirectory() as folder:
            virtual_time.run(story(count, output, Path(folder), phases))
        print(f"\n`--node-labels={output}`, {size} nodes, from {count} simulated ones\n")  # noqa: T201
        print(*rows(phases, size), sep="\n", flush=True)  # noqa: T201


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/scale", description=__doc__, allow_abbrev=False)
    parser.add_argument("--nodes", type=int, default=200, help="nodes to simulate")
    parser.add_argument("--size", type=int, default=10_000, help="nodes of the cluster")
    parser.add_argument("--requests-only", action="store_true", help="measure no scrapes")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logger.remove()
    if not given.requests_only:
        for line in scrape.rows(scrape.measure(), given.size, SCRAPES):
            print(line, flush=True)  # noqa: T201
    simulate(given.nodes, given.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
