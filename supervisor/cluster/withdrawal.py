"""Takes back what the cluster was told about the GPUs of a node that now has none.

The cluster process does not run on such a node, so its last word would stay: a condition and a
taint of broken GPUs, and labels of GPUs. A process of its own does this once, as it needs memory.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from loguru import logger

from health.ledger import BOOT_ID
from proto.cluster import ClusterSettings
from supervisor.cluster import label_outputs, node_condition, node_taint
from supervisor.cluster.apiserver import ApiServer, stamp
from supervisor.cluster.backoff import Backoff
from supervisor.cluster.connection import TroubleError
from supervisor.cluster.node_taint import Taint
from supervisor.labels.writer import OutputError

Step = Callable[[], Awaitable[bool]]
"""Takes one thing back; returns whether it was there. TroubleError or OutputError if that fails."""


def main(settings: ClusterSettings) -> None:
    """Take back what *settings* let the service tell; return when nothing is left."""
    asyncio.run(withdraw(ApiServer(settings.node), settings))


async def withdraw(api: ApiServer, settings: ClusterSettings) -> None:
    """Take back each thing apart from the others, and retry until it is gone."""
    steps = Withdrawal(api, settings).steps()
    await asyncio.gather(*(_until_done(use, step) for use, step in steps.items()))


async def _until_done(use: str, step: Step) -> None:
    backoff = Backoff(use)
    while True:
        try:
            removed = await step()
        except (TroubleError, OutputError) as error:
            await asyncio.sleep(backoff.failed(str(error)))
            continue
        backoff.went_well()
        if removed:
            logger.info("took back what the cluster was told about GPUs", use=use)
        return


class Withdrawal:
    """What is to be taken back, and how."""

    def __init__(self, api: ApiServer, settings: ClusterSettings) -> None:
        self._api = api
        self._settings = settings

    def steps(self) -> dict[str, Step]:
        """Return the steps by what the API server is used for."""
        found: dict[str, Step] = {}
        if self._settings.condition:
            found["condition"] = self._condition
        if self._settings.taint:
            found["taint"] = self._taint
        if labels := self._settings.labels:
            found["labels"] = label_outputs.output(self._api, labels, self._settings.node).remove
        return found

    async def _condition(self) -> bool:
        """Set the conditions to false that say otherwise; a node without them gets none."""
        there = await self._api.conditions()
        wrong = tuple(
            wanted
            for wanted in node_condition.without_gpu(BOOT_ID.read_text().strip())
            if there.get(wanted.type, ("False", ""))[0] != "False"
        )
        if wrong:
            now = stamp(time.time())
            patch = node_condition.patch(wrong, now, {condition.type for condition in wrong})
            await self._api.patch_status(patch)
        return bool(wrong)

    async def _taint(self) -> bool:
        version, taints = await self._api.taints()
        others = node_taint.after(taints, Taint())
        if others != taints:
            await self._api.set_taints(version, others)
        return others != taints
