"""Usage in the output of the command `status`: how busy each GPU is, and who uses what."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from supervisor.commands.tables import table, text
from supervisor.status import usage_wording as wording
from supervisor.status.report import DeviceStatus, Status
from supervisor.status.usage_report import DeviceUse, HolderKind
from supervisor.status.wording import UNKNOWN

STYLES = {HolderKind.UNALLOCATED: "red", HolderKind.HOST: "yellow", HolderKind.UNKNOWN: "yellow"}


def usage(status: Status) -> Iterator[Table | Text]:
    """Yield the tables of usage, which fit 80 columns; nothing if usage is not sampled."""
    if status.usage is None or not status.gpus:
        return
    named = [pair for gpu in status.gpus for pair in wording.devices(gpu)]
    yield _devices(named)
    for name, device in named:
        if device.usage and (leak := wording.leak(device.usage)):
            yield text(f"! GPU {name}: {leak}", "yellow")
    if status.usage.problem:
        yield text(f"- {wording.without_containers(status.usage.problem)}")
    if users := wording.users(status.gpus):
        yield text("")
        yield _users(users)


def _devices(named: list[tuple[str, DeviceStatus]]) -> Table:
    made = table(("GPU", "utilization", "memory", "temperature", "power"))
    for name, device in named:
        cells = _cells(device.usage) if device.usage else (UNKNOWN, "", "", "")
        made.add_row(*map(text, (name, *cells)))
    return made


def _cells(use: DeviceUse) -> tuple[str, ...]:
    utilization = wording.percent(use.utilization_percent)
    return utilization, wording.memory(use), wording.temperature(use), wording.power(use)


def _users(users: list[wording.User]) -> Table:
    made = table(("GPU", "memory", "utilization", "used by"))
    for user in users:
        use = user.use
        memory = wording.of(use.memory_used_bytes, use.memory_share_bytes)
        over = wording.is_over(use)
        style = STYLES.get(use.kind, "")
        made.add_row(
            text(user.device),
            text(f"! {memory}" if over else memory, "yellow" if over else ""),
            text(wording.percent(use.utilization_percent)),
            text(wording.described(use), style),
        )
    return made
