"""MPS in the output of the command `status`: the daemon of each device, and its clients."""

from collections.abc import Iterator

from rich.table import Table

from supervisor.commands.tables import table, text
from supervisor.status import mps_wording as wording
from supervisor.status.mps_report import MpsStatus
from supervisor.status.report import Status

STYLES = {"✓": "green", "✗": "red"}


def mps(status: Status) -> Iterator[Table]:
    """Yield a table of the devices that MPS shares; nothing if there is none."""
    found = [shared for gpu in status.gpus or () for shared in wording.shared(gpu)]
    if not found:
        return
    made = table(("GPU", "MPS", "server", "a replica", "used by"))
    for name, _, daemon in found:
        sign = wording.sign(daemon)
        first, *more = _clients(daemon)
        made.add_row(
            text(name),
            text(f"{sign} {wording.phase(daemon)}", STYLES.get(sign, "yellow")),
            text(wording.server(daemon)),
            text(wording.limits(daemon)),
            text(first),
        )
        for client in more:
            made.add_row("", "", "", "", text(client))
    yield made


def _clients(daemon: MpsStatus) -> list[str]:
    named = [f"{wording.whose(c)}: {wording.process(c)}" for c in daemon.clients or ()]
    return named or [wording.clients(daemon) if daemon.clients is None else ""]
