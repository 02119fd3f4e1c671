"""The CPU time of sampling how much of the GPUs is in use."""

import json
import time
from pathlib import Path

from tests.bench.footprint import FRESH
from tests.bench.kubelet import kubelet
from tests.bench.plugin import Plugin, running
from tests.bench.reactions import rest
from tests.bench.rows import Figures
from tests.fakes.service import short_folder

PROCESSES = 50
"""On each of the eight GPUs."""

FASTER = 5
"""How much more often the GPUs are sampled here than by default, to see it in a short time."""


def of_sampling(plugin: Plugin, seconds: float) -> Figures:
    """Measure what all processes spend more with sampling than without, in *seconds* of rest."""
    without, sampling = (_busy(plugin, interval, seconds) for interval in (0, 5 / FASTER))
    return {"usage": [100 * (sampling - without) / FASTER]}


def _busy(plugin: Plugin, interval: float, seconds: float) -> float:
    """Return the CPU time of all processes, as a part of one core."""
    with short_folder() as folder, kubelet(folder) as node:
        path = Path(folder) / "usage.json"
        path.write_text(json.dumps({"version": "v1", "usage": {"interval": interval}}))
        settings = {"STANDIN_NVML_PROCESSES": str(PROCESSES), "CONFIG_FILE": str(path)}
        with running(plugin, folder, settings=settings) as tree:
            node.next_list()
            rest(FRESH)
            begun, before = time.monotonic(), tree.processor_time()
            rest(seconds)
            return (tree.processor_time() - before) / (time.monotonic() - begun)
