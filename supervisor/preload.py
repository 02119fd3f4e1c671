"""Import what the children need, once, before they are forked.

So they start in milliseconds and share the pages. The exporter imports what it alone needs
itself: nobody waits for it, and the first list would come later. Nothing is initialised here: no
gRPC object, no ZeroMQ context, no driver, no thread.
"""

import gc
import importlib
import os

MODULES = (
    "grpc.aio",
    "health.main",
    "pynvml",
    "workers.main",
    "zmq.asyncio",
)


API_CLIENT = ("supervisor.cluster.main",)
"""What only the child needs that speaks with the Kubernetes API."""


def preload(*, api_client: bool) -> None:
    """Import the children's modules, and keep the collector from writing to the shared pages."""
    # gRPC's own log, beside ours on stderr, tells of every peer that hangs up.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for module in MODULES + (API_CLIENT if api_client else ()):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
