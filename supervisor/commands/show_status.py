"""The command `status`: fetch the status of the running service and print it."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proto.control import ExitCode
from proto.texts import printable
from supervisor.commands.ask import AskError
from supervisor.commands.fetch import fetch
from supervisor.commands.printing import printing, say
from supervisor.status import wording
from supervisor.status.report import DeviceStatus, GpuStatus, ResourceStatus, Status

STYLES = {"healthy": "green", "unhealthy": "red", "lost": "red", "recovering": "blue"}

FOLDED = {"resource", "held by"}
"""Columns that wrap on a narrow terminal; no column is cut off."""

ANY_WIDTH = 10_000
"""Width without a terminal: lines are not wrapped."""


def main(runtime_folder: Path, *, as_json: bool, judge: bool) -> int:
    """Print the status; return the exit code, with *judge* FAILED unless everything is healthy.

    Raises AskError if there is no status.
    """
    body = fetch(runtime_folder, "/status")
    try:
        status, plain = msgspec.json.decode(body, type=Status), msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise AskError(
            f"cannot read the service's answer: {error}; use the version that the service has"
        ) from error
    if as_json:
        # In ASCII, which is valid JSON; `say` would escape other characters in its own way.
        say(*json.dumps(plain, indent=2).split("\n"))
    else:
        with printing():
            show(status, Console(highlight=False, emoji=False, markup=False))
    return ExitCode.FAILED if judge and not status.ok else ExitCode.DONE


def show(status: Status, console: Console) -> None:
    """Print *status*: first what is wrong and what to do, then the tables."""
    if not console.is_terminal:
        console.width = ANY_WIDTH
    node = status.node
    console.print(_text(wording.headline(status), "bold"))
    driver = f"driver {node.driver_version or wording.UNKNOWN}"
    live, ready = ("yes" if verdict.ok else "no" for verdict in (node.live, node.ready))
    console.print(_text(f"{driver}, live: {live}, ready: {ready}"))
    for problem in wording.problems(status):
        console.print(_text(f"✗ {problem}", "red"))
    for line, names in _reasons(status).items():
        console.print(_text(f"✗ GPU {', '.join(names)}: {line}", "red"))
    for notice in node.notices or ():
        console.print(_text(f"- {notice}"))
    if status.gpus:
        console.print()
        console.print(_gpus(status.gpus, status.time))
    if status.resources:
        console.print()
        console.print(_resources(status.resources))


def _reasons(status: Status) -> dict[str, list[str]]:
    """Return each reason with its advice, and the names of the devices that have it."""
    found: dict[str, list[str]] = {}
    for gpu in status.gpus or ():
        for name, device in _devices(gpu):
            for reason in device.reasons:
                found.setdefault(f"{reason.text}. {reason.advice}", []).append(name)
    return found


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style, overflow="fold")


def _table(head: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in head:
        table.add_column(title, overflow="fold", no_wrap=title not in FOLDED)
    return table


def _devices(gpu: GpuStatus) -> Iterator[tuple[str, DeviceStatus]]:
    yield str(gpu.index), gpu
    for instance in gpu.instances:
        yield f"{gpu.index}:{instance.place}", instance


def _gpus(gpus: Iterable[GpuStatus], now: float) -> Table:
    table = _table(("GPU", "UUID", "state", "for", "resource", "used", "held by"))
    for gpu in gpus:
        first, *more = list(_shares(gpu)) or [("", "", "")]
        itself, *instances = (_condition(name, device, now) for name, device in _devices(gpu))
        table.add_row(*itself, *map(_text, first))
        for share in more:
            table.add_row("", "", "", "", *map(_text, share))
        for instance in instances:
            table.add_row(*instance)
    return table


def _condition(name: str, device: DeviceStatus, now: float) -> tuple[Text, ...]:
    state = wording.state(device)
    since = "" if device.since is None else wording.ago(now - device.since)
    return (
        _text(name),
        _text(device.uuid),
        _text(f"{wording.sign(state)} {state}", STYLES.get(state, "yellow")),
        _text(since),
    )


def _shares(gpu: GpuStatus) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each resource of a GPU, and one more for each further holder."""
    held = wording.by_resource(gpu.holders or ())
    for share in gpu.resources or ():
        first, *more = _names(held.pop(share.resource, [])) or [""]
        if gpu.holders is None:
            first = wording.UNKNOWN
        yield share.resource, f"{wording.number(share.used)} of {share.advertised}", first
        yield from (("", "", name) for name in more)
    for resource, claims in held.items():
        yield from ((resource, "not advertised", name) for name in _names(claims))


def _names(claims: Iterable[wording.Claim]) -> list[str]:
    return [f"{claim.container} ({claim.devices})" for claim in claims]


def _resources(resources: Iterable[ResourceStatus]) -> Table:
    table = _table(("resource", "healthy", "used", "kubelet"))
    for resource in resources:
        healthy = f"{wording.number(resource.healthy)} of {wording.number(resource.devices)}"
        used = wording.number(resource.allocated)
        cells = (resource.name, healthy, used, wording.kubelet(resource))
        table.add_row(*map(_text, cells))
    return table
