"""What a process knows of the MPS daemons, which another service tree keeps."""

import time
from collections.abc import Callable, Mapping

from proto.bus import Context, MpsSubscriber
from proto.fitness import LastMpsWord
from proto.host import Identity
from proto.mps import MpsShare
from proto.reasons import Reason

FIRST_WORD = 1.0
"""Seconds in which the daemons' tree answers a new listener, if it runs."""


class MpsListener:
    """Listens to the daemons' tree while the plan shares devices by MPS.

    Also while the tree's socket exists: as long as its daemon is left, a device is held back that
    the plan no longer shares so. Without both, nothing here runs but one look a second.
    """

    def __init__(self, context: Context, path: str, on_word: Callable[[], None]) -> None:
        """Call *on_word* after each word of the tree, whose socket is at *path*; empty: never."""
        self._subscriber = MpsSubscriber(context, path)
        self._path = path
        self._on_word = on_word
        self._wanted: Mapping[str, MpsShare] | None = None
        """None: nobody has said yet what the plan shares."""
        self.word: LastMpsWord | None = None
        """The last word; None: this process does not listen."""
        self.look()

    def want(self, wanted: Mapping[str, MpsShare]) -> None:
        """Note the devices that the plan shares by MPS from now on."""
        self._wanted = wanted
        self.look()

    def look(self) -> None:
        """Begin or stop to listen, as it is needed now; call it once a second."""
        wanted = bool(self._wanted) or Identity.of(self._path) is not None
        needed = wanted and bool(self._path)
        if needed is not (self.word is not None):
            self._subscriber.switch(on=needed)
            self.word = LastMpsWord(time.monotonic()) if needed else None

    async def follow(self) -> None:
        """Receive each word of the tree, for ever."""
        async for state in self._subscriber.states():
            if self.word:
                self.word = self.word.after(state, time.monotonic())
                self._on_word()

    def silent(self, now: float, stale_after: float) -> bool:
        """Return whether this process listens, but the tree says nothing."""
        return self.word is not None and self.word.silent(now, stale_after)

    def settled(self, now: float) -> bool:
        """Return whether the first word has arrived, or is not needed, or does not come."""
        if self._wanted is None:
            return False
        word = self.word if self._wanted else None
        return word is None or word.state is not None or now - word.at > FIRST_WORD

    def reasons(self, now: float, stale_after: float) -> dict[str, Reason]:
        """Return why MPS does not let devices be allocated, by UUID."""
        return self.word.reasons(self._wanted or {}, now, stale_after) if self.word else {}
