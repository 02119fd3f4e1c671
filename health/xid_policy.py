"""Decide which Xids are fatal, from NVIDIA's table and what the operator wishes.

The environment beats the file, and the file beats the table: a variable is the operator's
immediate word, set on one node in need, where the file is what the whole cluster shares.
Within the environment, what is enabled beats what is disabled.
"""

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from health import xid_catalogue
from health.xid_catalogue import Xid
from proto.monitor import XidPolicy

DISABLE = "DP_DISABLE_HEALTHCHECKS"
ENABLE = "DP_ENABLE_HEALTHCHECKS"

CODE = re.compile(r"[1-9][0-9]{0,8}")
"""An Xid as text; there is no Xid 0, and none so far has more than three digits."""

UNNAMED = 0
"""Stands for every Xid that nothing names."""


class Source(enum.StrEnum):
    """Who decided whether an Xid is fatal."""

    DEFAULT = "default"
    FILE = "health.xids"
    DISABLED = DISABLE
    ENABLED = ENABLE


@dataclass(frozen=True, slots=True)
class Selection:
    """The Xids that one of the variables names."""

    everything: bool = False
    codes: frozenset[int] = frozenset()

    def __contains__(self, xid: int) -> bool:
        return self.everything or xid in self.codes


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator says about Xids."""

    file: Mapping[int, bool] = field(default_factory=dict)
    """Whether an Xid is fatal, from the configuration file."""
    disabled: Selection = Selection()
    enabled: Selection = Selection()


@dataclass(frozen=True, slots=True)
class Row:
    """An Xid and the verdict on it."""

    xid: Xid
    fatal: bool
    source: Source


def select(variable: str, text: str) -> tuple[Selection, tuple[str, ...]]:
    """Return what *text*, the value of *variable*, selects, and a line for each malformed token.

    As in NVIDIA's plugin it is a list, separated by commas, of Xids, `all` and `xids`, which means
    the same, in any case; empty tokens and spaces do not matter. `0` is malformed here: NVIDIA's
    plugin takes it for `all`, which nobody who writes it to switch something off can mean.
    """
    tokens = [token for one in text.split(",") if (token := one.strip())]
    words = {token for token in tokens if token.lower() in {"all", "xids"}}
    codes = {token: token.lstrip("0") for token in tokens if token not in words}
    malformed = [token for token, code in codes.items() if not CODE.fullmatch(code)]
    notices = (f"cannot use {json.dumps(t)} in {variable}: write Xids or all" for t in malformed)
    chosen = frozenset(int(code) for token, code in codes.items() if token not in malformed)
    return Selection(bool(words), chosen), tuple(notices)


def judge(wishes: Wishes, xid: int) -> Row:
    """Return the verdict on *xid*."""
    entry = xid_catalogue.lookup(xid)
    if xid in wishes.enabled:
        return Row(entry, fatal=True, source=Source.ENABLED)
    if xid in wishes.disabled:
        return Row(entry, fatal=False, source=Source.DISABLED)
    if xid in wishes.file:
        return Row(entry, fatal=wishes.file[xid], source=Source.FILE)
    return Row(entry, fatal=entry.fatal, source=Source.DEFAULT)


def rows(wishes: Wishes) -> tuple[Row, ...]:
    """Return the verdict on every Xid that the table or the *wishes* name, by number."""
    named = (
        xid_catalogue.TABLE.keys()
        | wishes.file.keys()
        | wishes.disabled.codes
        | wishes.enabled.codes
    )
    return tuple(judge(wishes, xid) for xid in sorted(named))


def policy(wishes: Wishes) -> XidPolicy:
    """Return what the monitor is told."""
    others_fatal = judge(wishes, UNNAMED).fatal
    exceptions = (row.xid.xid for row in rows(wishes) if row.fatal != others_fatal)
    return XidPolicy(others_fatal, frozenset(exceptions))
