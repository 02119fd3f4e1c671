"""The command `status`: fetch the status of the running service and print it."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from health.remedies import strength
from proto.control import ExitCode
from supervisor.commands.ask import AskError
from supervisor.commands.fetch import fetch
from supervisor.commands.printing import printing, say
from supervisor.commands.show_mps import mps
from supervisor.commands.show_usage import usage
from supervisor.commands.tables import table, text
from supervisor.status import usage_wording, wording
from supervisor.status.report import DeviceStatus, GpuStatus, ResourceStatus, Status

STYLES = {"healthy": "green", "unhealthy": "red", "lost": "red", "recovering": "blue"}

WIDE = 120
"""Columns of a terminal from which on there is room for UUIDs beside the names of pods."""

ANY_WIDTH = 10_000
"""Width without a terminal: lines are not wrapped."""


def main(runtime_folder: Path, *, as_json: bool, judge: bool) -> int:
    """Print the status; return the exit code, with *judge* FAILED unless everything is healthy.

    Raises AskError if there is no status.
    """
    body = fetch(runtime_folder, "/status")
    status = _decoded(body)
    if as_json:
        # In ASCII, which is valid JSON; `say` would escape other characters in its own way.
        say(*json.dumps(msgspec.json.decode(body), indent=2).split("\n"))
    else:
        with printing():
            show(status, Console(highlight=False, emoji=False, markup=False))
    return ExitCode.FAILED if judge and not status.ok else ExitCode.DONE


def newest(runtime_folder: Path) -> Status:
    """Return the status of the service; raise AskError if there is none."""
    return _decoded(fetch(runtime_folder, "/status"))


def _decoded(body: bytes) -> Status:
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError as error:
        raise AskError(
            f"cannot read the service's answer: {error}; use the version that the service has"
        ) from error


def show(status: Status, console: Console) -> None:
    """Print *status*: first what is wrong and what to do, then the tables."""
    if not console.is_terminal:
        console.width = ANY_WIDTH
    node = status.node
    console.print(text(wording.headline(status), "bold"))
    driver = f"driver {node.driver_version or wording.UNKNOWN}"
    driver += " (simulated)" if node.backend == "simulated" else ""
    driver += f", platform {node.platform or wording.UNKNOWN}"
    live, ready = ("yes" if verdict.ok else "no" for verdict in (node.live, node.ready))
    console.print(text(f"{driver}, live: {live}, ready: {ready}"))
    for problem in wording.problems(status):
        console.print(text(f"✗ {problem}", "red"))
    for line, names in _reasons(status):
        console.print(text(f"✗ GPU {', '.join(names)}: {line}", "red"))
    for line, names in _grey(status).items():
        console.print(text(f"! GPU {', '.join(names)}: {line}", "yellow"))
    for notice in wording.notices(status):
        console.print(text(f"- {notice}"))
    for tables in _tables(status, wide=console.width >= WIDE):
        console.print()
        console.print(*tables, sep="\n")


def _tables(status: Status, *, wide: bool) -> Iterator[list[Table | Text]]:
    """Yield the tables in groups, with an empty line above each group."""
    if status.gpus:
        yield [_gpus(status.gpus, status.time, wide=wide)]
    if daemons := list(mps(status)):
        yield [*daemons]
    if users := list(usage(status)):
        yield users
    if status.resources:
        yield [_resources(status.resources)]


def _reasons(status: Status) -> list[tuple[str, list[str]]]:
    """Return the reasons of a device and its advice in a line, with the names of all such devices.

    The line with the strongest remedy is the first.
    """
    found: dict[tuple[int, str], list[str]] = {}
    for gpu in status.gpus or ():
        for name, device in usage_wording.devices(gpu):
            if device.reasons:
                texts = "; ".join(reason.text for reason in device.reasons)
                rank = strength(device.remedy) if device.remedy else 0
                found.setdefault((-rank, joined(texts, device.advice or "")), []).append(name)
    return [(line, found[rank, line]) for rank, line in sorted(found, key=lambda key: key[0])]


def joined(what: str, advice: str) -> str:
    """Return what is wrong, and the advice as the next sentence."""
    return f"{what} {advice}" if what.endswith(("?", ".")) else f"{what}. {advice}"


def _grey(status: Status) -> dict[str, list[str]]:
    """Return each grey failure with its advice, and the names of the GPUs that have it."""
    found: dict[str, list[str]] = {}
    for gpu in status.gpus or ():
        for failure in gpu.grey:
            line = joined(f"{wording.GREY}{failure.text}", failure.advice)
            found.setdefault(line, []).append(str(gpu.index))
    return found


def _gpus(gpus: Iterable[GpuStatus], now: float, *, wide: bool) -> Table:
    uuid = ("UUID",) if wide else ()
    made = table(("GPU", *uuid, "state", "for", "resource", "used", "held by"))
    for gpu in gpus:
        first, *more = list(_shares(gpu)) or [("", "", "")]
        itself, *instances = (
            _condition((name, device.uuid) if wide else (name,), device, now)
            for name, device in usage_wording.devices(gpu)
        )
        made.add_row(*itself, *map(text, first))
        for share in more:
            made.add_row(*[""] * len(itself), *map(text, share))
        for instance in instances:
            made.add_row(*instance)
    return made


def _condition(names: tuple[str, ...], device: DeviceStatus, now: float) -> tuple[Text, ...]:
    state = wording.state(device)
    since = "" if device.since is None else wording.ago(now - device.since)
    return (
        *map(text, names),
        text(f"{wording.sign(state)} {state}", STYLES.get(state, "yellow")),
        text(since),
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
    yield from wording.dra_rows(gpu)


def _names(claims: Iterable[wording.Claim]) -> list[str]:
    return [f"{claim.container} ({claim.devices})" for claim in claims]


def _resources(resources: Iterable[ResourceStatus]) -> Table:
    made = table(("resource", "sharing", "healthy", "used", "kubelet"))
    for resource in resources:
        healthy = f"{wording.number(resource.healthy)} of {wording.number(resource.devices)}"
        used = wording.number(resource.allocated)
        sharing = resource.sharing or wording.UNKNOWN
        cells = (resource.name, sharing, healthy, used, wording.kubelet(resource))
        made.add_row(*map(text, cells))
    return made
