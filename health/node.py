"""The node as the lanes find it: the driver is opened once, then each GPU is asked on its own."""

import functools
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from health import enumeration, inventory, node_files, pci, platform
from health.call_stats import Totals
from health.cdi_lane import CdiLane, CdiWritten
from health.condition import Look
from health.driver_facts import DriverFacts, find_driver_facts
from health.enumeration import Enumerated, Levelled, Levels
from health.gpu_lanes import GpuLanes
from health.inventory import Slot
from health.known_good import with_known_good
from health.lane import Done, Lane, Mailbox
from health.looks import of_absent, of_given_away
from health.node_files import FilesLane, NodeFiles
from health.nvml import Nvml, key_of
from health.opening import Opened, open_driver
from proto.calls import CallStats
from proto.messages import FailedGpu, Gpu, Inventory
from proto.monitor import MonitorSettings
from proto.platform import Platform
from proto.reasons import Reason, ReasonKind
from proto.usage import DeviceUsage

PENDING = Reason(ReasonKind.UNWATCHED, "not enumerated yet")


class Node:
    """Opens the driver, runs the lanes of all GPUs, and composes the inventory."""

    def __init__(self, settings: MonitorSettings, known: tuple[Gpu, ...], mailbox: Mailbox) -> None:
        """Begin to open the driver; *known* are the GPUs that were there before in this boot."""
        self._settings = settings
        self._known = known
        self._mailbox = mailbox
        self._roots = enumeration.roots(settings)
        self.bound = pci.bound(self._roots.sysfs)
        """The PCI addresses bound to the driver, read before it is opened."""
        self._passed = pci.passed(self._roots.sysfs)
        """The GPUs that are given to virtual machines: the driver by PCI address."""
        self._opened: Opened | None = None
        self._opened_at = 0.0
        self._facts_asked = False
        self._facts = DriverFacts()
        self._levels: Levels = {}
        self._levelled: frozenset[str] = frozenset()
        self.gpus: tuple[GpuLanes, ...] = ()
        self._calls = Totals()
        self.driver = Lane("driver", Nvml(), mailbox)
        self.driver.give(functools.partial(open_driver, settings=settings))
        self._files = FilesLane(self._roots, settings.imex_channels, mailbox)
        self._cdi = CdiLane(settings, settings.cdi, mailbox) if settings.cdi else None

    @property
    def opened(self) -> bool:
        """Whether the driver has answered."""
        return self._opened is not None

    def lanes(self) -> Iterator[tuple[Lane, GpuLanes | None]]:
        """Yield each lane that may hang, with its GPU."""
        yield self.driver, None
        yield self._files.lane, None
        for gpu in self.gpus:
            yield gpu.calls, gpu
            yield gpu.events, gpu

    def gpu_of(self, lane: Lane) -> GpuLanes | None:
        """Return the GPU of *lane*; None: the lane serves the whole node."""
        return next((gpu for gpu in self.gpus if lane in (gpu.calls, gpu.events)), None)

    def holding(self, uuid: str) -> GpuLanes | None:
        """Return the lanes of the enumerated GPU that is, or has, the device *uuid*."""
        return next((gpu for gpu in self.gpus if gpu.holds(uuid)), None)

    def uuid_of(self, key: Hashable) -> str | None:
        """Return the UUID of the GPU whose handle has *key*, without a driver call."""
        return next((gpu.uuid for gpu in self.gpus if gpu.gpu and key_of(gpu.handle) == key), None)

    def step(self, now: float, lost: frozenset[str]) -> None:
        """Give each idle lane the job that is due; *lost* GPUs are not watched for events."""
        for gpu in self.gpus:
            gpu.step(now, self._settings.poll_interval, lost=gpu.uuid in lost)
        found = self._handles()
        patient = now - self._opened_at <= self._settings.patience and not all(
            g.answered for g in self.gpus
        )
        if self.opened and not self.driver.busy and not patient:
            self._ask_driver(found)
        if self.opened:
            self._files.step()
        if self._cdi:
            complete = self.opened and all(gpu.answered for gpu in self.gpus)
            gpus = self._enumerated()
            self._cdi.mode = platform.toolkit_mode(self._roots.signs, gpus)
            self._cdi.step(gpus, now, complete=complete, channels=self._files.channels)

    def _ask_driver(self, found: dict[str, object]) -> None:
        """Give the lane of the whole driver the job that is due; *found* are handles by UUID."""
        if not self._facts_asked:
            self._facts_asked = True
            self.driver.give(find_driver_facts, lambda _: DriverFacts())
        elif found.keys() != self._levelled:
            # Last: where it hangs, nothing else waits for this lane.
            self._levelled = frozenset(found)
            find = functools.partial(enumeration.find_levels, handles=found)
            self.driver.give(find, lambda _: Levelled({}))

    def take(self, done: Done, gpu: GpuLanes | None, now: float) -> None:
        """Keep what a lane, that of *gpu* or of the whole node, has found."""
        match done.result:
            case Opened():
                self._opened, self._opened_at = done.result, now
                self._roots = replace(self._roots, signs=done.result.signs)
                nvml = done.lane.nvml
                self.gpus = tuple(
                    GpuLanes(index, nvml, self._mailbox, self._roots, self._settings)
                    for index in range(done.result.count)
                )
                self._files.again()  # the driver may have made device nodes and NUMA nodes
                if self._cdi:
                    mode = platform.toolkit_mode(done.result.signs, ())
                    self._cdi.open(mode, self._files.channels)
            case Levelled() | DriverFacts() | NodeFiles() as found:
                self._of_node(found)
            case CdiWritten() if self._cdi:
                self._cdi.take(done.result, now)
            case Enumerated() as found if gpu:
                known = with_known_good(found.gpu, self._known)
                gpu.take(replace(found, gpu=known))
            case _ if gpu:
                gpu.take(done.result)
            case _:
                raise AssertionError(f"cannot happen: the lane {done.lane.name} reports a check")

    def _of_node(self, found: Levelled | DriverFacts | NodeFiles) -> None:
        """Keep what was found about the whole node."""
        match found:
            case Levelled():
                self._levels = found.levels
            case DriverFacts():
                self._facts = found
            case NodeFiles():
                self._files.found = found

    def begin(self, now: float) -> None:
        """Note that the first inventory is in effect, with the CDI specifications as they are."""
        if self._cdi:
            self._cdi.begin(now)

    def is_written(self) -> bool:
        """Return whether the CDI specifications, if any are wanted, are those of the present GPUs.

        If they are not, `step` has them written, and there will be a report when that is done. GPUs
        are published afterwards, so that a device is not Unhealthy until its name is written.
        """
        return self._cdi is None or self._cdi.settled(self._enumerated())

    def unnamed(self, gpus: Iterable[Gpu]) -> dict[str, Reason]:
        """Return why devices of *gpus* are Unhealthy because they have no CDI name, by UUID."""
        return self._cdi.reasons(gpus) if self._cdi else {}

    def _enumerated(self) -> tuple[Gpu, ...]:
        return platform.named(self._roots.signs, [gpu.gpu for gpu in self.gpus if gpu.gpu])

    def deadline(self, lost: frozenset[str]) -> float:
        """Return when the next job is due."""
        gpus = (gpu.deadline(lost=gpu.uuid in lost) for gpu in self.gpus)
        return min(*gpus, self._cdi.deadline() if self._cdi else math.inf, math.inf)

    def ready(self, now: float) -> bool:
        """Return whether a start has waited long enough to report the inventory.

        It waits for GPUs that are slow, but not long for those that can be listed without an
        answer, and for none that is stuck in a call while there are others to report.
        """
        age, patience = now - self._opened_at, self._settings.patience
        if not self.opened or age > self._settings.hang_after:
            return self.opened
        if self._files.found is None and not (self._known and age > patience):
            return False  # the node would seem to have no IMEX channels
        silent = [gpu for gpu in self.gpus if not gpu.answered]
        unknown = [gpu for gpu in silent if not self._is_known(gpu)]
        slow = [gpu for gpu in silent if not gpu.calls.late(now, patience)]
        if (slow and age <= patience) or not {*slow}.isdisjoint(unknown):
            return False
        if unknown and len(unknown) == len(self.gpus):
            return False
        # Devices that are known have specifications already, perhaps old ones.
        if not self.is_written() and not (self._known and age > patience):
            return False
        asked = self._facts_asked and self._files.settled and not self.driver.busy
        settled = asked and all(gpu.settled for gpu in self.gpus)
        return age > patience or settled

    def _is_known(self, gpu: GpuLanes) -> bool:
        return any(known.index == gpu.index for known in self._known)

    def is_changed_on_the_bus(self) -> bool:
        """Return whether the kernel has bound other GPUs to the driver than at the start.

        A process initialises NVML once, and NVML then shows only the GPUs of that time.
        """
        return pci.bound(self._roots.sysfs) != self.bound

    def rescan(self) -> None:
        """Enumerate GPUs or their MIG instances again soon, and look for files of the node."""
        self._files.again()
        self._passed = pci.passed(self._roots.sysfs)
        for gpu in self.gpus:
            gpu.rescan()

    def refused(self) -> tuple[FailedGpu, ...]:
        """Return why each GPU failed to enumerate, if all GPUs did."""
        failed = tuple(gpu.failed for gpu in self.gpus if gpu.failed)
        return failed if len(failed) == len(self.gpus) else ()

    def looks(self) -> dict[str, Look]:
        """Return the newest check of each GPU whose calls return, by UUID."""
        return {gpu.uuid: gpu.looked.look for gpu in self.gpus if gpu.looked}

    def absent_looks(self, known: Inventory) -> dict[str, Look]:
        """Return a check of each GPU in *known* that could not be enumerated."""
        found = inventory.absent(self._slots(), known.gpus)
        looks = {
            uuid: of_absent(slot, known.failed)
            for uuid, slot in found.items()
            if not self._is_silent(slot)
        }
        return looks | of_given_away(self._passed, [g for g in known.gpus if g.uuid in found])

    def inventory(self, hangs: Mapping[int, str]) -> Inventory:
        """Return the inventory; *hangs* are the calls that hang, by the GPU's index."""
        slots = self._slots()
        gpus = inventory.with_absent(
            slots, self._known, self.bound, self._passed, opened=self.opened
        )
        gpus = platform.named(self._roots.signs, gpus)
        files = self._files.found or node_files.UNKNOWN
        peers = {gpu.uuid: gpu.details.peers for gpu in self.gpus if gpu.details}
        return Inventory(
            driver_version=self._opened.driver_version if self._opened else "",
            gpus=gpus,
            failed=tuple(inventory.failures(slots, gpus, hangs)),
            nodes=files.nodes,
            cdi_kinds=self._cdi.kinds if self._cdi else (),
            cdi_channels=self._cdi.channels if self._cdi else (),
            links=tuple(inventory.links(gpus, peers, self._levels)),
            cuda_version=self._facts.cuda,
            excluded=self._facts.excluded,
            numa=files.numa,
            passed=self._passed,
            platform=self._platform(gpus),
        )

    def _platform(self, gpus: Sequence[Gpu]) -> Platform | None:
        if self._opened is None:
            return None
        return platform.decide(self._roots.signs, self._settings.discovery, gpus)

    def pending(self, gpus: Iterable[Gpu], now: float) -> dict[str, Reason]:
        """Return why those *gpus* are not watched whose enumeration does not go on.

        While its calls return, a GPU has the health that the ledger knows: slow is no fault.
        """
        found = inventory.absent(self._slots(), gpus)
        return {uuid: PENDING for uuid, slot in found.items() if self._is_pending(slot, now)}

    def _is_pending(self, slot: Slot | None, now: float) -> bool:
        if slot is None or not self.opened:
            return self._is_silent(slot)
        calls = self.gpus[slot.index].calls
        # The first call began a moment after the start, so it may not be late yet.
        stuck = calls.late(now, self._settings.patience) or not calls.nvml.counted
        return self._is_silent(slot) and bool(stuck)

    def _is_silent(self, slot: Slot | None) -> bool:
        """Return whether a GPU has not answered; without a slot, it may be any that has not."""
        if slot is None:
            return not self.opened or not all(gpu.answered for gpu in self.gpus)
        return slot.failed is None

    def usage(self, now: float) -> tuple[DeviceUsage, ...]:
        """Return how much of each GPU and MIG instance is in use."""
        return tuple(device for gpu in self.gpus for device in gpu.sampling.devices(now))

    def stats(self) -> tuple[CallStats, ...]:
        """Return the calls of all lanes together."""
        return self._calls.of(lane.nvml for lane, _ in self.lanes())

    def _slots(self) -> list[Slot]:
        return [gpu.slot() for gpu in self.gpus]

    def _handles(self) -> dict[str, object]:
        return {gpu.uuid: gpu.handle for gpu in self.gpus if gpu.gpu}
