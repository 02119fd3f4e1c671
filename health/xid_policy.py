"""Decide which Xids are fatal, from NVIDIA's catalogue and the operator's settings.

The environment overrules the file, and the file overrules the catalogue: a variable is set on one
node in an emergency, and the file is shared by the whole cluster.
Within the environment, enabled Xids overrule disabled Xids.
"""

import enum
import json
import re
from collections.abc import Mapping

import msgspec

from health import xid_catalogue
from health.xid_catalogue import Xid
from proto.monitor import XidPolicy

DISABLE = "DP_DISABLE_HEALTHCHECKS"
ENABLE = "DP_ENABLE_HEALTHCHECKS"

CODE = re.compile(r"[1-9][0-9]{0,8}")
"""An Xid as text; there is no Xid 0, and so far no Xid has more than three digits."""

UNNAMED = 0
"""Stands for every Xid that neither the catalogue nor the settings name."""


class Source(enum.StrEnum):
    """Which setting decided whether an Xid is fatal."""

    DEFAULT = "default"
    FILE = "health.xids"
    DISABLED = DISABLE
    ENABLED = ENABLE


class Selection(msgspec.Struct, frozen=True):
    """The Xids that one of the variables names."""

    everything: bool = False
    codes: frozenset[int] = frozenset()

    def __contains__(self, xid: int) -> bool:
        return self.everything or xid in self.codes


class Wishes(msgspec.Struct, frozen=True):
    """The operator's settings for Xids."""

    file: Mapping[int, bool] = msgspec.field(default_factory=dict)
    """Whether an Xid is fatal, from `health.xids` in the configuration file."""
    disabled: Selection = Selection()
    enabled: Selection = Selection()


class Row(msgspec.Struct, frozen=True):
    """An Xid, whether it is fatal, and which setting decided."""

    xid: Xid
    fatal: bool
    source: Source


def select(variable: str, text: str) -> tuple[Selection, tuple[str, ...]]:
    """Return what *text*, the value of *variable*, selects, and a line for each malformed token.

    As in NVIDIA's plugin, the value is a comma-separated list of Xids, `all` and `xids` (same as
    `all`), in any case; spaces and empty tokens are ignored. `0` is malformed here: NVIDIA's plugin
    reads it as `all`, but a person who writes 0 wants to switch something off.
    """
    tokens = [token for part in text.split(",") if (token := part.strip())]
    words = {token for token in tokens if token.lower() in {"all", "xids"}}
    codes = {token: token.lstrip("0") for token in tokens if token not in words}
    malformed = [token for token, code in codes.items() if not CODE.fullmatch(code)]
    notices = (f"ignored {json.dumps(t)} in {variable}: write Xids or all" for t in malformed)
    chosen = frozenset(int(code) for token, code in codes.items() if token not in malformed)
    return Selection(bool(words), chosen), tuple(notices)


def judge(wishes: Wishes, xid: int) -> Row:
    """Return whether *xid* is fatal, and which setting decided."""
    entry = xid_catalogue.lookup(xid)
    if xid in wishes.enabled:
        return Row(entry, fatal=True, source=Source.ENABLED)
    if xid in wishes.disabled:
        return Row(entry, fatal=False, source=Source.DISABLED)
    if xid in wishes.file:
        return Row(entry, fatal=wishes.file[xid], source=Source.FILE)
    return Row(entry, fatal=entry.fatal, source=Source.DEFAULT)


def follows_driver(row: Row) -> bool:
    """Return whether the driver's word for the severity, if it gives one, decides about an Xid."""
    return row.xid.xid in xid_catalogue.UNDECIDED and (row.fatal or row.source is Source.DEFAULT)


def rows(wishes: Wishes) -> tuple[Row, ...]:
    """Return the row of every Xid that the catalogue or *wishes* name, sorted by number."""
    named = (
        xid_catalogue.TABLE.keys()
        | wishes.file.keys()
        | wishes.disabled.codes
        | wishes.enabled.codes
    )
    return tuple(judge(wishes, xid) for xid in sorted(named))


def policy(wishes: Wishes) -> XidPolicy:
    """Return the policy for the monitor."""
    others_fatal = judge(wishes, UNNAMED).fatal
    exceptions = (row.xid.xid for row in rows(wishes) if row.fatal != others_fatal)
    ignored = (xid for xid in xid_catalogue.UNDECIDED if not follows_driver(judge(wishes, xid)))
    return XidPolicy(others_fatal, frozenset(exceptions), frozenset(ignored))
