"""Which Xids make a device unhealthy, as the supervisor tells the monitor."""

import msgspec


class XidPolicy(msgspec.Struct, frozen=True):
    """The verdict on every Xid there can be; untold, each is fatal."""

    others_fatal: bool = True
    """Whether the Xids are fatal that are no exceptions."""
    exceptions: frozenset[int] = frozenset()

    def is_fatal(self, xid: int) -> bool:
        """Return whether *xid* makes the device unhealthy."""
        return (xid in self.exceptions) != self.others_fatal
