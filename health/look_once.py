"""A process that looks at the node once, for a command: no events, no health, nothing is stored.

As in the monitor, each GPU has a thread of its own, so that a GPU whose calls hang costs its own
facts only.
"""

import functools
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from health import enumeration, inventory
from health.access import hang, refusal
from health.driver_facts import DriverFacts, find_driver_facts
from health.enumeration import (
    Enumerated,
    NotEnumerated,
    enumerate_gpu,
)
from health.inventory import Slot
from health.label_facts import find_facts, with_facts
from health.lane import Done, Lane, Mailbox
from health.nvml import Nvml
from health.opening import Opened, Refused, open_driver
from health.platform import decide, named
from proto.channel import Channel
from proto.control import ExitCode, Inventoried, NotReady
from proto.facts import GpuFacts
from proto.messages import Inventory
from proto.monitor import MonitorSettings


def main(settings: MonitorSettings, channel: Channel, epoch: int) -> int:
    """Report the inventory without links, or why there is none; return the exit code.

    It takes at most `health.hangAfter` to open the driver, and as long again for all GPUs. A GPU
    that has not answered by then is among the failed ones.
    """
    del epoch  # this process publishes nothing on the bus
    report = look_once(settings)
    channel.send(report)
    return ExitCode.NOT_READY if isinstance(report, NotReady) else ExitCode.DONE


NOT_KNOWN = DriverFacts()


@dataclass(slots=True)
class _Seen:
    """What the threads have found so far."""

    slots: dict[Lane, Slot]
    driver: DriverFacts = NOT_KNOWN
    waiting: set[Lane] = field(default_factory=set)
    """Lanes with a job."""


def look_once(settings: MonitorSettings) -> Inventoried | NotReady:
    """Return what the driver shows of the node, or why it cannot be used."""
    mailbox = Mailbox()
    driver = Lane("driver", Nvml(), mailbox)
    driver.give(functools.partial(open_driver, settings=settings))
    done = next(_results(mailbox, time.monotonic() + settings.hang_after), None)
    match done.result if done else None:
        case Opened() as opened:
            return Inventoried(_inventory(opened, driver, mailbox, settings))
        case Refused() as refused:
            return refusal(refused.error, refused.code, Path(settings.procfs))
        case _:
            running = driver.nvml.running
            return hang(running.call if running else "nvmlInit")


def _inventory(
    opened: Opened, driver: Lane, mailbox: Mailbox, settings: MonitorSettings
) -> Inventory:
    roots = replace(enumeration.roots(settings), signs=opened.signs)
    lanes = [Lane(f"gpu {n}", driver.nvml.for_thread(), mailbox) for n in range(opened.count)]
    found = _Seen({lane: Slot(index) for index, lane in enumerate(lanes)})
    found.waiting |= {driver, *lanes}
    driver.give(find_driver_facts)
    for index, lane in enumerate(lanes):
        lane.give(functools.partial(enumerate_gpu, index=index, roots=roots))
    for done in _results(mailbox, time.monotonic() + settings.hang_after):
        _take(found, done, roots.sysfs)
        if not found.waiting:
            break
    slots = list(found.slots.values())
    calls = {n: running.call for n, lane in enumerate(lanes) if (running := lane.nvml.running)}
    gpus = named(opened.signs, inventory.with_absent(slots, (), frozenset()))
    return Inventory(
        driver_version=opened.driver_version,
        gpus=gpus,
        failed=tuple(inventory.failures(slots, (), calls)),
        cuda_version=found.driver.cuda,
        platform=decide(opened.signs, settings.discovery, gpus),
    )


def _results(mailbox: Mailbox, deadline: float) -> Iterator[Done]:
    """Yield the result of each job until *deadline*; raise what a job raised."""
    while (left := deadline - time.monotonic()) > 0:
        select.select([mailbox], [], [], left)
        for report in mailbox.take():
            if isinstance(report, Done):
                if isinstance(report.result, BaseException):
                    raise report.result
                yield report


def _take(found: _Seen, done: Done, sysfs: Path) -> None:
    """Keep what a lane has found; a GPU that was enumerated is then asked for its facts."""
    lane = done.lane
    found.waiting.discard(lane)
    match done.result:
        case DriverFacts() as facts:
            found.driver = facts
        case Enumerated(handle, gpu):
            found.slots[lane] = Slot(gpu.index, gpu=gpu)
            found.waiting.add(lane)
            lane.give(functools.partial(find_facts, handle=handle, gpu=gpu, sysfs=sysfs))
        case NotEnumerated(failed):
            found.slots[lane] = Slot(failed.index, failed=failed)
        case GpuFacts() as facts if known := found.slots[lane].gpu:
            found.slots[lane] = Slot(known.index, gpu=with_facts(known, facts))
