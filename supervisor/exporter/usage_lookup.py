"""Adds to each sample whose the processes are, without holding up the exporter's loop.

The files of /proc and of the log folders are read in a thread: on a busy node that takes tens of
milliseconds, and on a broken disk for ever.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from proto.exporter import UsageRoots
from proto.messages import UsageState
from supervisor.exporter.usage_processes import Found, find
from supervisor.status.snapshot import KnownUsage
from supervisor.status.usage_owner import Owners

WITHIN = 3.0
"""Seconds for a look-up; then the figures of GPUs are shown without those of containers."""

SWITCHED_OFF = "switched off by --pod-usage=false"

TOO_SLOW = f"cannot read /proc or the log folders within {WITHIN:g} s: check the node's disk"


class UsageLookup:
    """Takes samples, and returns each with the owners of its processes."""

    def __init__(self, roots: Sequence[UsageRoots], *, wanted: bool) -> None:
        """Find owners by *roots*, if *wanted*."""
        self._newest = asyncio.Queue[tuple[UsageState, float]](1)
        self._roots = roots
        self._wanted = wanted
        self._found: Found = {}
        self._running: asyncio.Future[Owners] | None = None
        self._owners = Owners()
        self._taken: dict[str, float] = {}
        """When the samples were taken whose owners are known, by UUID."""

    def take(self, state: UsageState, now: float) -> None:
        """Take samples that arrived at *now*; earlier ones that nobody looked at are dropped."""
        with contextlib.suppress(asyncio.QueueEmpty):
            self._newest.get_nowait()
        self._newest.put_nowait((state, now))

    async def next(self) -> KnownUsage:
        """Wait for the next samples; return them with the owners of their processes."""
        state, at = await self._newest.get()
        return KnownUsage(state, at, await self._find(state))

    async def _find(self, state: UsageState) -> Owners:
        if not self._wanted:
            return Owners(problem=SWITCHED_OFF)
        if self._running and not self._running.done():
            return Owners(problem=TOO_SLOW)
        # A message repeats the samples of the GPUs that were not sampled since the one before.
        fresh = tuple(d for d in state.devices if self._taken.get(d.uuid) != d.taken)
        part = replace(state, devices=fresh)
        self._running = _in_thread(lambda: find(part, self._roots, self._found))
        try:
            async with asyncio.timeout(WITHIN):
                found = await asyncio.shield(self._running)
        except TimeoutError:
            return Owners(problem=TOO_SLOW)
        return self._merged(state, found)

    def _merged(self, state: UsageState, found: Owners) -> Owners:
        """Return the new owners, and the old ones of samples that are still shown."""
        if found.problem:
            self._taken, self._owners = {}, Owners()
            return found
        self._taken = {device.uuid: device.taken for device in state.devices}
        of = {**self._owners.of, **found.of}
        shown = {
            (device.uuid, process.pid)
            for device in state.devices
            for process in device.processes or ()
        }
        pids = {pid for _, pid in shown}
        self._found = {key: seen for key, seen in self._found.items() if key[1] in pids}
        self._owners = Owners({key: owner for key, owner in of.items() if key in shown})
        return self._owners


def _in_thread(look_up: Callable[[], Owners]) -> asyncio.Future[Owners]:
    """Look up owners in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Owners] = loop.create_future()

    def run() -> None:
        try:
            found = look_up()
        except Exception as error:  # noqa: BLE001 - raised again by the future
            deliver = functools.partial(result.set_exception, error)
        else:
            deliver = functools.partial(result.set_result, found)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(deliver)

    threading.Thread(target=run, name="usage", daemon=True).start()
    return result
