"""Decide what is published of all MPS daemons, from the last word of each keeper."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec
from msgspec.structs import replace

from proto.control import ServiceState
from proto.mps import MpsDaemon, Phase
from proto.mps_bus import BUS, KEEPER

FIRST_WORDS = 2.0
"""Seconds in which all keepers that run have spoken to a new listener."""


class Word(msgspec.Struct, frozen=True):
    """What a keeper said last of its daemon."""

    daemon: MpsDaemon
    at: float
    """When it arrived, on the monotonic clock."""
    wall: float
    """The same as Unix time."""


def kept(tree: ServiceState) -> frozenset[str] | None:
    """Return the UUIDs of the devices that have a keeper.

    None: not known yet. Until the plugin's inventory arrives, daemons may run without a keeper.
    """
    if tree.planned is None:
        return None
    names = {process.name for process in tree.processes if process.state != "down"}
    return frozenset(n.removeprefix(KEEPER) for n in names - {KEEPER + BUS} if n[:4] == KEEPER)


def complete(words: Mapping[str, Word], kept: AbstractSet[str], began: float, now: float) -> bool:
    """Return whether to publish: each keeper has spoken, or is late.

    *began*: when it became known which keepers there are. Else a restart of this process, or of the
    tree, would tell for a moment of devices without a daemon.
    """
    return kept <= words.keys() or now - began > FIRST_WORDS


def merged(
    words: Mapping[str, Word], kept: AbstractSet[str], now: float, stale_after: float
) -> tuple[MpsDaemon, ...]:
    """Return the daemons of the devices that have a keeper, as their keepers see them."""
    return tuple(_daemon(uuid, words.get(uuid), now, stale_after) for uuid in sorted(kept))


def ending(daemons: tuple[MpsDaemon, ...], wall: float) -> tuple[MpsDaemon, ...]:
    """Return *daemons* as they are when the tree ends at *wall*, in Unix time."""
    end = {"phase": Phase.DRAINING, "detail": "gpu-sharing-plugin mps ends", "since": wall}
    return tuple(replace(daemon, **end) for daemon in daemons)


def _daemon(uuid: str, word: Word | None, now: float, stale_after: float) -> MpsDaemon:
    if word is None:
        return MpsDaemon(uuid, detail="its keeper starts")
    if now - word.at > stale_after:
        silent = {"phase": Phase.FAILED, "detail": "its keeper is silent", "since": word.wall}
        return replace(word.daemon, **silent)
    return word.daemon
