"""The operator's own command on free GPUs, with the whole service."""

import asyncio
from itertools import pairwise
from pathlib import Path

from tests.fakes.service import kubelet, service, until

GPU = "nvidia.com/gpu"
UUIDS = [f"GPU-{n}0000000-0000-0000-0000-000000000000" for n in range(3)]
NODE: dict[str, object] = {"gpus": [{"uuid": uuid} for uuid in UUIDS]}

SCRIPT = """#!/bin/sh
cd {folder}
echo "begin $GPU_INDEX $CUDA_VISIBLE_DEVICES" >>log
case $GPU_INDEX in
1) echo 'bad memory at 7' ;;
2) test -e hang && sleep 60 & wait ;;
esac
echo end >>log
test "$GPU_INDEX" != 1 -o -e repaired
"""


def test_the_probe(folder: Path) -> None:
    """Free GPUs are probed one after the other; a failure, or no result in time, is a reason.

    A GPU that a container holds is not probed, and maintenance ends a probe.
    """
    script, log = folder / "check", folder / "log"
    script.write_text(SCRIPT.format(folder=folder))
    script.chmod(0o700)
    (folder / "hang").touch()
    rules = f"health: {{probe: {script}, probeInterval: 1s, probeTimeout: 3s, pollInterval: 1s}}"
    (folder / "config.yaml").write_text(f"version: v1\n{rules}\n")

    def said() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            service(folder, f"--config-file={folder}/config.yaml", node=NODE) as running,
        ):
            await running.logged("the probe of a GPU failed", uuid=UUIDS[1])
            told = await running.logged("the probe of a GPU failed", uuid=UUIDS[2])
            assert told["reason"] == "no result within 3 s"
            await node.until(lambda k: k.healthy(GPU) == 1)
            (folder / "hang").unlink()
            (folder / "repaired").touch()
            await node.until(lambda k: k.healthy(GPU) == 3)
            admitted = await node.admit("space/pod", GPU, 1)
            (held,) = [str(UUIDS.index(device)) for device in admitted.ids]
            await until(lambda: _others(said(), held), "probes of the others only")
            assert _one_at_a_time(said())
            assert f"begin 0 {UUIDS[0]}" in said()
            assert await running.stop() == 0

    asyncio.run(story())


def _others(lines: list[str], held: str) -> bool:
    """Return whether the newest six probes are of GPUs that nobody holds."""
    newest = [line.split()[1] for line in lines if line.startswith("begin")][-6:]
    return len(newest) == 6 and held not in newest


def _one_at_a_time(lines: list[str]) -> bool:
    """Return whether each probe has ended before the next, but for that of GPU 2: it is killed."""
    steps = [" ".join(line.split()[:2]) for line in lines]
    return all(after == "end" or before in {"end", "begin 2"} for before, after in pairwise(steps))
