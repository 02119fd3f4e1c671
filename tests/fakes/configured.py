"""A service whose configuration file a test replaces."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from simulator.kubelet import Kubelet
from tests.fakes.service import Service, kubelet, service


@contextlib.asynccontextmanager
async def configured(folder: Path) -> AsyncIterator[tuple[Path, Kubelet, Service]]:
    """Run the service on a node of one GPU until it is ready; yield its configuration file too."""
    path = folder / "config.yaml"
    path.write_text("version: v1\n")
    async with (
        kubelet(folder) as node,
        service(folder, f"--config-file={path}", node={"gpus": [{}]}) as running,
    ):
        await running.ready()
        yield path, node, running
