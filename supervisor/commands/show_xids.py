"""The command `xids`: print which Xids are fatal with the settings."""

import json
from collections.abc import Iterator, Sequence

from health import xid_policy
from health.xid_policy import Row, Source, Wishes

HEADER = ("xid", "name", "action", "fatal", "set by")


def as_json(wishes: Wishes) -> str:
    """Return the effective table as a JSON list."""
    return json.dumps(
        [
            {
                "xid": row.xid.xid,
                "name": row.xid.name,
                "action": row.xid.action,
                "fatal": row.fatal,
                "followsDriver": xid_policy.follows_driver(row),
            }
            for row in xid_policy.rows(wishes)
        ],
        indent=2,
    )


def as_text(wishes: Wishes) -> str:
    """Return the effective table as aligned text; its last line is for all other Xids."""
    rows = xid_policy.rows(wishes)
    cells = [HEADER, *(_cells(str(row.xid.xid), row) for row in rows)]
    cells.append(_cells("other", xid_policy.judge(wishes, xid_policy.UNNAMED)))
    return "\n".join(_aligned(cells))


def _cells(xid: str, row: Row) -> tuple[str, ...]:
    source = "" if row.source is Source.DEFAULT else row.source
    fatal = "yes" if row.fatal else "no"
    if xid_policy.follows_driver(row):
        fatal += ", unless Nonfatal" if row.fatal else ", unless Fatal"
    return (xid, row.xid.name, row.xid.action, fatal, source)


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        rest = (cell.ljust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.rjust(widths[0]), *rest)).rstrip()
