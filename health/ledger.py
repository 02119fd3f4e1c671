"""Keep the health of devices over restarts of the plugin; a reboot clears it.

It is one JSON file in the state folder, replaced atomically. It is valid for one boot, because it
uses the monotonic clock. Devices are identified by UUID and PCI address, so a replacement card
starts without the faults of the old card.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from loguru import logger
from msgspec.structs import replace

from health.condition import Condition, after_return
from health.forgetting import Entry, remembered
from proto.folder import Folder
from proto.messages import Gpu

FILE = "health.json"
VERSION = 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Page(msgspec.Struct, frozen=True):
    """The file."""

    version: int
    boot_id: str
    devices: dict[str, Entry]
    """By the UUID of a GPU or a MIG instance."""
    gpus: tuple[Gpu, ...] = ()
    """The GPUs of the node, including those that could not be reached any more."""
    kernel_log: int | None = None
    """The number of the newest record of the kernel log that gave an event, as it was seen."""
    deaf: dict[str, str] = {}
    """The calls for events that hung when they were last seen, by the UUID of the GPU."""


class Ledger:
    """Reads and writes the file; only one process may use it."""

    def __init__(self, folder: Path, boot_id: Path = BOOT_ID) -> None:
        self._path = folder / FILE
        self._boot_id = boot_id.read_text().strip()
        self._problem = ""
        self._written: Page | None = None
        self._read = self._page()
        self._elsewhere: dict[str, Entry] = dict(self._read.devices) if self._read else {}
        """Devices that are not on the node now, or have not been found yet."""
        self.kernel_log = self._read.kernel_log if self._read else None
        """How far the kernel log was read; None: not yet in this boot."""
        self.deaf: Mapping[str, str] = self._read.deaf if self._read else {}
        """The calls for events that hung when they were last seen, by the UUID of the GPU."""
        self._here: dict[str, Entry] = {}
        """Devices that are on the node, even if they could not be written."""

    @property
    def persisted(self) -> bool:
        """Whether the last write to the disk succeeded."""
        return not self._problem

    @property
    def is_behind(self) -> bool:
        """Whether more of the kernel log was read than is written."""
        return self._written is not None and self._written.kernel_log != self.kernel_log

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs that an earlier monitor saved in this boot."""
        return self._read.gpus if self._read else ()

    def recall(
        self, places: Mapping[str, str], bound: frozenset[str] = frozenset()
    ) -> dict[str, Condition]:
        """Return the saved conditions of devices that have turned up at their *places*, by UUID.

        A device that was missing counts as removed if its PCI address is not in *bound* (unless it
        has none, or *bound* is empty). If a removed device comes back, that proves a reset.
        """
        cards = {gpu.uuid for gpu in self.gpus()}
        found = {}
        for uuid, entry in list(self._elsewhere.items()):
            place = entry.pci_bus_id
            if places.get(uuid) == place:
                del self._elsewhere[uuid]
                condition = entry.condition
                found[uuid] = after_return(condition) if entry.gone else condition
            elif uuid in cards and uuid not in places and place in places.values():
                del self._elsewhere[uuid]
                logger.info("a GPU was replaced: forgetting the old faults", uuid=uuid, pci=place)
            elif not entry.gone and uuid not in places and bound and place and place not in bound:
                self._elsewhere[uuid] = replace(entry, gone=True, left=time.monotonic())
        return found

    def _page(self) -> Page | None:
        try:
            with Folder.existing(self._path.parent) as folder:
                page = msgspec.json.decode(folder.read(self._path.name), type=Page)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            logger.warning(
                "cannot trust the saved device health: starting without it", error=str(error)
            )
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._set_aside(str(error))
            return None
        if page.version != VERSION:
            self._set_aside(
                f"the file has version {page.version}, this plugin reads version {VERSION}"
            )
            return None
        return page if page.boot_id == self._boot_id else None

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_suffix(".unreadable")
        logger.warning(
            "cannot read the saved device health: starting without it",
            file=str(self._path),
            error=why,
        )
        try:
            with Folder.existing(self._path.parent) as folder:
                folder.rename(self._path.name, aside.name)
        except OSError as error:
            logger.warning(
                "cannot rename the unreadable health file", file=str(aside), error=str(error)
            )

    def write(
        self,
        places: Mapping[str, str],
        conditions: Mapping[str, Condition],
        gpus: Iterable[Gpu] = (),
        *,
        log_too: bool = False,
    ) -> None:
        """Save *conditions* and *gpus*; if the disk fails, log one warning and continue.

        Where nothing changed except how far the kernel log was read, write only with *log_too*: a
        storm in the log must not become one on the disk.
        """
        entries = self._entries(places, conditions, time.monotonic())
        deaf = {uuid: call for uuid, call in self.deaf.items() if uuid in places}
        page = Page(VERSION, self._boot_id, entries, tuple(gpus), self.kernel_log, deaf)
        # Write again if someone deleted the file: a restart would forget all faults.
        seen = self._written and not log_too and replace(self._written, kernel_log=self.kernel_log)
        if page in (self._written, seen) and self._path.exists():
            return
        try:
            with Folder.private(self._path.parent) as folder:
                folder.write(self._path.name, msgspec.json.encode(page))
        except OSError as error:
            if str(error) != self._problem:
                logger.warning(
                    "cannot save device health: a monitor restart would forget faults",
                    error=str(error),
                )
            self._problem = str(error)
            return
        self._written, self._problem = page, ""

    def _entries(
        self, places: Mapping[str, str], conditions: Mapping[str, Condition], now: float
    ) -> dict[str, Entry]:
        left = {u: replace(e, gone=True, left=now) for u, e in self._here.items()}
        absent = {u: e for u, e in (self._elsewhere | left).items() if u not in places}
        self._elsewhere = remembered(absent, frozenset(places.values()), now)
        known = {uuid: c for uuid, c in conditions.items() if uuid in places and c != Condition()}
        self._here = {uuid: Entry(places[uuid], condition) for uuid, condition in known.items()}
        return self._elsewhere | self._here
