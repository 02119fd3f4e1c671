"""Look from time to time whether DRA gives out what this node advertises."""

import asyncio
import time
from collections.abc import Callable

from loguru import logger

from proto.cluster import DraOffers
from proto.control import ServiceState
from proto.messages import NodeState
from proto.spread import next_turn, place_of
from supervisor.cluster import dra_offers
from supervisor.cluster.apiserver import ApiServer
from supervisor.cluster.backoff import Backoff
from supervisor.cluster.connection import TroubleError

EVERY = 3600.0
"""Seconds between two looks, each with two requests; each node has its own moment."""


class DraLook:
    """Keeps what the API server said last, and reports what follows from it."""

    def __init__(self, api: ApiServer, node: str, send: Callable[[DraOffers], object]) -> None:
        self._api = api
        self._node = node
        self._send = send
        self._offers: dra_offers.Offers | None = None
        self._uuids: frozenset[str] | None = None
        self._resources: tuple[str, ...] | None = None
        self._sent = DraOffers()

    def on_state(self, state: NodeState) -> None:
        """Take the devices of the node into account."""
        gpus = state.inventory.gpus
        self._uuids = frozenset(u for g in gpus for u in (g.uuid, *(i.uuid for i in g.instances)))
        self._tell()

    def on_service(self, state: ServiceState) -> None:
        """Take the advertised resources into account."""
        self._resources = state.planned
        self._tell()

    async def run(self) -> None:
        """Look at once, and then at each turn of this node."""
        backoff = Backoff("dra")
        while True:
            try:
                slices, classes = await self._api.dra()
            except TroubleError as error:
                await asyncio.sleep(backoff.failed(str(error)))
                continue
            backoff.went_well()
            self._offers = dra_offers.read(slices, classes)
            self._tell()
            now = time.monotonic()
            await asyncio.sleep(next_turn(now, EVERY, place_of(self._node)) - now)

    def _tell(self) -> None:
        if self._offers is None or self._uuids is None or self._resources is None:
            return
        found = dra_offers.told(self._offers, self._uuids, self._resources)
        if found == self._sent:
            return
        before, self._sent = self._sent, found
        self._send(found)
        if found.devices and found.devices != before.devices:
            why = found.devices
            logger.warning("a DRA driver offers GPUs that are advertised here", reason=why)
        elif before.devices and not found.devices:
            logger.info("no DRA driver offers GPUs that are advertised here any more")
