"""The kubelet's pod resources API sends answers that cannot be decoded."""

import asyncio
from pathlib import Path

import grpc

from supervisor.exporter.pod_resources import PodResources
from tests.fakes.service import PATIENCE


def test_an_answer_that_cannot_be_decoded_is_no_answer(folder: Path) -> None:
    """An answer that cannot be decoded counts as no answer; an empty answer means no pods."""

    async def story() -> None:
        answers = [b"\xff" * 100, b"", b"\x0a\x02\xff\xff"]

        async def answer(request: bytes, context: object) -> bytes:
            del request, context
            return answers.pop(0)

        handler = grpc.method_handlers_generic_handler(
            "v1.PodResourcesLister", {"List": grpc.unary_unary_rpc_method_handler(answer)}
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(f"unix:{folder}/pods.sock")
        await server.start()
        pods = PodResources(f"{folder}/pods.sock", lambda: frozenset({"nvidia.com/gpu"}))
        heard = []
        for _ in range(3):
            heard.append(await asyncio.wait_for(pods.next(), PATIENCE))
            pods.look()
        await server.stop(None)

        assert heard == [None, (), None]

    asyncio.run(story())
