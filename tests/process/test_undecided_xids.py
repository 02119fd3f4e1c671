"""An NVLink 5 Xid is over as soon as the driver says that the GPU needs no recovery."""

import asyncio
from pathlib import Path

from proto.messages import DeviceState
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(2))
CONFIGURATION = """version: v1
health:
  pollInterval: 200ms
  recovery: {quietPeriod: 1h}
  xids: {43: fatal, 147: fatal}
"""
"""The simulated driver asks for no recovery after these Xids. The quiet period outlasts the test,
so a fault ends only if the driver decides that it was none."""


def test_an_nvlink_xid_without_a_recovery_action_is_over_at_once(folder: Path) -> None:
    """After Xid 147 a GPU is Healthy again without a quiet period; after Xid 43 it is not."""
    (folder / "config.yaml").write_text(CONFIGURATION)

    async def story() -> None:
        options = (f"--config-file={folder}/config.yaml",)
        async with (
            kubelet(folder) as node,
            service(folder, *options, node={"gpus": [{}, {}]}) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("watching GPUs for Xid events")
            running.node.xid(1, 43)
            await running.logged("device listed as Unhealthy", uuid=SECOND, reasons=["xid 43"])
            running.node.xid(0, 147)
            await running.logged("device listed as Unhealthy", uuid=FIRST, reasons=["xid 147"])
            await running.logged("device listed as Healthy", uuid=FIRST)
            await running.logged("device is healthy again", uuid=FIRST, state=DeviceState.HEALTHY)
            await running.logged(
                "device is recovering: waiting for the quiet period to end", uuid=SECOND
            )
            await node.until(lambda k: k.healthy(GPU) == 1)

    asyncio.run(story())
