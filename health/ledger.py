"""Keep the conditions of devices over restarts of the plugin; a reboot clears them.

One JSON file in the state folder, replaced atomically. It is of one boot, whose monotonic clock it
uses, and of GPUs by UUID and PCI place: a card that was replaced takes its history with it.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from loguru import logger

from health.condition import Condition

FILE = "health.json"
VERSION = 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Entry(msgspec.Struct, frozen=True):
    """The condition of one device, and where it was."""

    pci_bus_id: str
    condition: Condition


class Page(msgspec.Struct, frozen=True):
    """The file."""

    version: int
    boot_id: str
    devices: dict[str, Entry]
    """By the UUID of a GPU or a MIG instance."""


class Ledger:
    """The file, for the one process that reads and writes it."""

    def __init__(self, folder: Path, boot_id: Path = BOOT_ID) -> None:
        self._path = folder / FILE
        self._boot_id = boot_id.read_text().strip()
        self._problem = ""
        self._written: Page | None = None
        self._elsewhere: dict[str, Entry] = {}
        """Devices that were not seen at this start; they may come back."""

    def read(self, places: Mapping[str, str]) -> dict[str, Condition]:
        """Return the conditions of devices that still are at their *places*, by UUID."""
        page = self._page()
        if page is None or page.boot_id != self._boot_id:
            return {}
        self._elsewhere = {u: e for u, e in page.devices.items() if u not in places}
        here = {u: e for u, e in page.devices.items() if places.get(u) == e.pci_bus_id}
        return {uuid: entry.condition for uuid, entry in here.items()}

    def _page(self) -> Page | None:
        try:
            page = msgspec.json.decode(self._path.read_bytes(), type=Page)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._set_aside(str(error))
            return None
        if page.version != VERSION:
            self._set_aside(f"version {page.version}, not {VERSION}")
            return None
        return page

    def _set_aside(self, why: str) -> None:
        aside = self._path.with_suffix(".unreadable")
        logger.warning("cannot read what was known of devices", file=str(self._path), error=why)
        try:
            self._path.replace(aside)
        except OSError as error:
            logger.warning("cannot set it aside", file=str(aside), error=str(error))

    def write(self, places: Mapping[str, str], conditions: Mapping[str, Condition]) -> None:
        """Keep *conditions*; where the disk does not let us, warn once and go on."""
        known = {uuid: c for uuid, c in conditions.items() if uuid in places and c != Condition()}
        entries = {uuid: Entry(places[uuid], condition) for uuid, condition in known.items()}
        page = Page(VERSION, self._boot_id, self._elsewhere | entries)
        if page == self._written:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = self._path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(page))
            new.replace(self._path)
        except OSError as error:
            if str(error) != self._problem:
                logger.warning("cannot keep what is known of devices", error=str(error))
            self._problem = str(error)
            return
        self._written, self._problem = page, ""
