"""What the stand-in is ordered to do: by drills, in the live node, and by tests, in a folder.

In the folder of `tests/fakes/mps_host.py`:

all.json and UUID.json: the faults of all daemons, or of a GPU's, as `Steering.fault` returns them.
all.crashes, UUID.crashes and ....server-crashes: how many more daemons or servers shall crash.
programs and commands: what was started and asked, a JSON object a line.
"""

import json
import os
import select
import time
from typing import Any

from simulator.mps.state import FAULT

LOOK_AGAIN = 0.02
"""Seconds between two looks at the faults, while one holds up."""

NAME = "NVIDIA H100 80GB HBM3"
"""What a GPU of a node file is, too, if the file does not say."""

Gpu = tuple[str, str, str]
"""UUID, name and PCI address."""


class Steering:
    """The orders, as the daemon of one GPU or of all sees them."""

    def __init__(self, folder: str, node: str, gpus: str) -> None:
        """*folder*: of a test; *node*: the file of the live node; *gpus*: UUIDs. Each may be empty.

        The GPUs are those of the live node, or else *gpus*, or else what the daemon asks for.
        """
        self.folder = folder
        self._node = node
        self._gpus = gpus
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self._visible = None if visible is None else [word for word in visible.split(",") if word]
        self.key = (self._visible or ["all"])[0]

    def fault(self, name: str) -> object:
        """Return what is ordered by this name; None: nothing."""
        found: object = None
        for key in ("all", self.key) if self.folder else ():
            found = self._read(f"{self.folder}/{key}.json").get(name, found)
        return found

    def users(self) -> list[tuple[int, str]]:
        """Return PID and name of the live node's processes that use the GPU by MPS.

        They exist only in the simulation, and are no clients of a server.
        """
        uses = self._live().get("uses", {})
        found = [use for gpu in self.gpus() for use in uses.get(gpu[0], ())]
        return [(use["pid"], "simulated") for use in found if use["kind"] == "mps"]

    @property
    def status(self) -> str:
        """The status that the servers have to tell; empty: their own."""
        if (ordered := self.fault("status")) is not None:
            return str(ordered)
        faulty = self._live().get("mps_faults", ())
        return FAULT if any(gpu[0] in faulty for gpu in self.gpus()) else ""

    def of(self, command: str) -> dict[str, object]:
        """Return what is ordered for the answers to a command."""
        orders = self.fault("commands")
        if not isinstance(orders, dict):
            return {}
        rules: dict[str, dict[str, object]] = orders
        return rules.get(command, rules.get("*", {}))

    def crashes(self, what: str) -> bool:
        """Return whether a crash is ordered, and count it."""
        for key in {"all", self.key} if self.folder else ():
            path = f"{self.folder}/{key}.{what}"
            try:
                with open(path) as file:
                    left = int(file.read())
            except (OSError, ValueError):
                continue
            if left > 0:
                with open(path, "w") as file:
                    file.write(str(left - 1))
                return True
        return False

    def may_start(self) -> bool:
        """Return whether the daemon starts: at once, late, or after it is no longer held up."""
        if self.crashes("crashes"):
            return False
        begun = time.monotonic()
        while how := self.fault("start"):
            late = isinstance(how, (int, float)) and time.monotonic() - begun >= how
            if late or how == "fails":
                return late
            select.select([], [], [], LOOK_AGAIN)
        return True

    def note(self, name: str, **fields: object) -> None:
        """Append a line to programs or commands."""
        if self.folder:
            line = json.dumps({"gpu": self.key, **fields}) + "\n"
            with open(f"{self.folder}/{name}", "a") as file:
                file.write(line)

    def gpus(self) -> list[Gpu]:
        """Return the GPUs of the node that CUDA_VISIBLE_DEVICES lets through, in its order."""
        present = self._present()
        if self._visible is None:
            return present
        found = []
        for word in self._visible:
            chosen = [gpu for place, gpu in enumerate(present) if word in (str(place), gpu[0])]
            if word.startswith("MIG-"):  # the node file does not name its instances
                chosen = [(word, NAME, "0000:00:06.0")]
            if not chosen:
                break  # CUDA ignores what follows an entry that it does not know
            found += chosen
        return found

    def _present(self) -> list[Gpu]:
        if live := self._live():
            gone = {*live.get("removed", ()), *live.get("lost", ())}
            gpus = [gpu for gpu in live["node"]["gpus"] if gpu["uuid"] not in gone]
            return [(g["uuid"], g.get("name", NAME), g["pciBusId"]) for g in gpus]
        uuids = [uuid for uuid in self._gpus.split(",") if uuid]
        if not uuids and self._visible:
            uuids = [word for word in self._visible if not word.isdigit()]
        return [(uuid, NAME, f"0000:00:{6 + place:02x}.0") for place, uuid in enumerate(uuids)]

    def _live(self) -> dict[str, Any]:
        return self._read(self._node) if self._node else {}

    def _read(self, path: str) -> dict[str, Any]:
        try:
            with open(path) as file:
                found: dict[str, Any] = json.load(file)
        except (FileNotFoundError, PermissionError):  # a server may run as another user
            return {}
        return found
