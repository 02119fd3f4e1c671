"""Import the modules of the child processes once, before the forks.

The children then start in milliseconds and share the memory. The exporter's own modules are not
imported here: nobody waits for the exporter, and they would delay the first device list. Nothing
is initialised here: no gRPC object, no ZeroMQ context, no driver, no thread.
"""

import gc
import importlib
import os
from collections.abc import Iterable

PLUGIN = (
    "grpc.aio",
    "health.main",
    "pynvml",
    "workers.main",
)

MPS = ("supervisor.mps.keeper", "supervisor.mps.main")

API_CLIENT = ("supervisor.cluster.main",)
"""Modules that only the cluster process needs, which uses the Kubernetes API."""


def preload(modules: Iterable[str], *, api_client: bool) -> None:
    """Import the children's modules; freeze the collector, which would write to shared pages.

    Nothing is collected: imports leave little garbage, a search of all objects takes as long as
    the imports of many modules, and what it frees leaves holes in pages that are shared.
    """
    # gRPC would log every closed connection to stderr, between our lines.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    gc.disable()
    for module in (*modules, *(API_CLIENT if api_client else ())):
        importlib.import_module(module)
    gc.freeze()
    gc.enable()
