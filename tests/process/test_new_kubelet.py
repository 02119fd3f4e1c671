"""The kubelet is replaced: each worker registers with the newest kubelet, exactly once."""

import asyncio
import signal
import socket
from pathlib import Path

from tests.fakes.service import PATIENCE, kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}


def test_a_kubelet_that_never_answers_blocks_no_worker(folder: Path) -> None:
    """A worker registers with a new kubelet at once, even while the old kubelet has not answered a
    call.
    """

    async def story() -> None:
        path = folder / "kubelet/kubelet.sock"
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(path))
            deaf.listen(8)
            deaf.setblocking(False)
            async with service(folder, node=NODE) as running:
                called = await asyncio.wait_for(
                    asyncio.get_running_loop().sock_accept(deaf), PATIENCE
                )
                with called[0]:
                    async with kubelet(folder) as node:
                        await node.until(lambda k: k.healthy(GPU) == 2)
                        # The call did not end by its own timeout: the new kubelet ended it.
                        entry = await running.logged("cannot register with the kubelet, retrying")
                        assert "the kubelet restarted during the call" in entry["error"]
                        assert node.registrations == 1

    asyncio.run(story())


def test_a_new_kubelet_is_registered_with_once(folder: Path) -> None:
    """A worker that has found the new kubelet itself does not register again when the supervisor
    tells it.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            running.process.send_signal(signal.SIGSTOP)
            await node.stop()
            await node.start()
            await node.until(lambda k: k.registrations == 2 and k.healthy(GPU) == 2)
            running.process.send_signal(signal.SIGCONT)
            await running.logged("registering with the new kubelet")
            state = await running.publishes(epoch=1)
            await running.publishes(epoch=1, sequence=state.sequence + 2)
            assert node.registrations == 2

    asyncio.run(story())
