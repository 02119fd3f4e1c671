"""Generate the CDI specifications with nvidia-ctk, and replace each file atomically."""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

from health import cdi_spec, device_nodes
from health.cdi_spec import (
    CSV,
    CSV_FOLDER,
    GPUS,
    IMEX,
    TOOL,
    CdiError,
    CdiSpec,
    Document,
    DriverRoots,
    Wanted,
)
from health.nvidia_ctk import NothingThereError, Runs, TooOldError, find_tool
from proto import host
from proto.folder import Folder
from proto.monitor import CdiSettings
from proto.safe_paths import WRITABLE
from proto.worker import DeviceIdStrategy

COMMAND_LIMIT = 30.0
"""Time limit in seconds for one run of nvidia-ctk."""

TOTAL_LIMIT = 60.0
"""Time limit in seconds for all runs of one try."""

NOT_INSTALLED = f"{TOOL} is not installed"


class Outcome(msgspec.Struct, frozen=True):
    """What became of a specification that was to be written."""

    spec: CdiSpec
    changed: bool = False
    """Whether the file has a new content."""
    error: str = ""
    """Why it could not be written; empty: it is up to date."""
    why: str = ""
    """The tool's last line, or else the error."""
    nothing: bool = False
    """Whether it was not written because the node has no such devices."""
    errors: Mapping[str, str] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    """Why the tool failed for single GPUs, by UUID; the file has the devices of the others."""


class OnDisk(msgspec.Struct, frozen=True):
    """The specification files as they are."""

    files: tuple[host.Identity | None, ...] = ()
    """Which file each specification is; None: it does not exist."""
    names: frozenset[str] = frozenset()
    """The names of devices in the GPUs' file."""
    channels: frozenset[str] = frozenset()
    """The names of devices in the file of the IMEX channels."""


class Task(msgspec.Struct, frozen=True):
    """What to write: which specifications, with the devices that containers get by name."""

    specs: tuple[CdiSpec, ...]
    gpus: tuple[Wanted, ...] = ()
    outdated: frozenset[str] = frozenset()
    """Names of devices that are gone since the present file was written."""
    mode: str = GPUS
    """How the tool finds the GPUs: nvml, csv or wsl."""


def files_of(settings: CdiSettings) -> tuple[host.Identity | None, ...]:
    """Return which files the specifications are now."""
    return tuple(host.Identity.of(str(spec.path)) for spec in cdi_spec.specs(settings))


def on_disk(settings: CdiSettings) -> OnDisk:
    """Read which devices the specifications of the GPUs and the IMEX channels name."""
    files = files_of(settings)  # first: a file that is replaced meanwhile is noticed later
    specs = {spec.mode: spec for spec in cdi_spec.specs(settings)}
    return OnDisk(files, _names(specs[GPUS]), _names(specs.get(IMEX)))


def _names(spec: CdiSpec | None) -> frozenset[str]:
    """Return the names of the devices in the file of *spec*."""
    try:
        found = cdi_spec.devices(cdi_spec.read(_content(spec.path), spec.kind)) if spec else []
    except OSError:
        found = []
    return frozenset(device["name"] for device in found)


def still_due(task: Task, before: OnDisk, now: OnDisk) -> Task:
    """Return what is left of *task*: the files that are gone since *before*, or lack devices."""
    gone = {
        spec
        for spec, old, new in zip(task.specs, before.files, now.files, strict=True)
        if old and not new
    }
    lacking = cdi_spec.lacks(task.gpus, now.names)
    due = (s for s in task.specs if s in gone or (s.mode == GPUS and lacking))
    return replace(task, specs=tuple(due))


def write_all(
    settings: CdiSettings,
    task: Task,
    runs: Runs,
    limit: float = COMMAND_LIMIT,
    total: float = TOTAL_LIMIT,
) -> tuple[Outcome, ...]:
    """Write the specifications of *task*."""
    try:
        tool = find_tool(settings)
    except CdiError as error:
        return tuple(Outcome(spec, error=str(error), why=error.why) for spec in task.specs)
    if tool is None:
        return tuple(Outcome(spec, error=NOT_INSTALLED, why=NOT_INSTALLED) for spec in task.specs)
    deadline = time.monotonic() + total
    toolkit = Toolkit(tool, settings, roots_here(settings), task, runs, limit, deadline)
    return tuple(_outcome(toolkit, spec) for spec in task.specs)


def _outcome(toolkit: "Toolkit", spec: CdiSpec) -> Outcome:
    try:
        changed, errors = toolkit.write(spec)
    except (CdiError, OSError) as error:
        nothing = isinstance(error, NothingThereError)
        why = getattr(error, "why", str(error))
        return Outcome(spec, error=str(error), why=why, nothing=nothing)
    return Outcome(spec, changed=changed, errors=errors)


def roots_here(settings: CdiSettings) -> DriverRoots:
    """Return the roots as this process sees them: those of the host, or where they are mounted."""
    mounted = settings.container_driver_root
    if mounted == "/" or not Path(mounted).is_dir():
        return DriverRoots(settings.driver_root, settings.dev_root)
    return DriverRoots(mounted, str(device_nodes.root_of((Path(mounted), Path("/")))))


def csv_files(root: str) -> list[str]:
    """Return the flags that name the files of a Tegra below the driver *root*.

    Without files there are none: the tool then looks where they are on a host.
    """
    files = sorted(Path(root, CSV_FOLDER).glob("*.csv"))
    return [f"--csv.file={file}" for file in files]


class Toolkit(msgspec.Struct, frozen=True):
    """Runs nvidia-ctk with the settings, within the time limits."""

    tool: str
    settings: CdiSettings
    here: DriverRoots
    task: Task
    runs: Runs
    limit: float
    deadline: float

    def write(self, spec: CdiSpec) -> tuple[bool, Mapping[str, str]]:
        """Write *spec*; return whether the file changed, and for which GPUs the tool failed."""
        # Runtimes of any user may read it.
        with Folder.made(spec.path.parent, 0o755) as folder:
            return self._write(folder, spec)

    def _write(self, folder: Folder, spec: CdiSpec) -> tuple[bool, Mapping[str, str]]:
        # The tool gets a path: the folder is safe, so nobody else can redirect it.
        work = spec.path.with_name(f".{spec.path.stem}.work")
        shutil.rmtree(work, ignore_errors=True)  # left by a killed monitor
        work.mkdir()
        made = work / "spec.json"
        try:
            try:
                errors = self._make(folder, spec, made)
            except CdiError:
                self._forget_outdated(folder, spec)
                raise
            return _replace(folder, spec, made.read_bytes()), errors
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _make(self, folder: Folder, spec: CdiSpec, made: Path) -> Mapping[str, str]:
        errors: Mapping[str, str] = {}
        try:
            self._generate(spec, made)
        except NothingThereError:
            raise
        except CdiError as error:
            # It knows GPUs by UUID in the mode nvml only.
            if spec.mode != GPUS or self.task.mode != GPUS or not self.task.gpus:
                raise
            errors = self._make_each(folder, spec, made, error)
        for source, target in cdi_spec.rewrites(self.settings, self.here):
            self._run(cdi_spec.rewriting(self.tool, source, target, made), made.parent)
        cdi_spec.check(_content(made), spec.kind)
        return errors

    def _make_each(
        self, folder: Folder, spec: CdiSpec, made: Path, first: CdiError
    ) -> Mapping[str, str]:
        """Make a specification of the GPUs for which the tool works; return the others' errors."""
        gpus = [gpu for gpu in self.task.gpus if gpu.devices]
        documents: list[Document] = []
        errors: dict[str, str] = {}
        for number, gpu in enumerate(gpus):
            # A fair share: a GPU that hangs must not take the time of the GPUs after it.
            share = (self.deadline - time.monotonic()) / (len(gpus) - number)
            part, flags = made.with_name(f"{number}.json"), cdi_spec.only(gpu)
            try:
                documents.append(self._generate(spec, part, flags, share))
            except TooOldError:
                raise first from None
            except CdiError as error:
                errors[gpu.gpu] = error.why
        if not documents:
            raise first
        kept = self._kept(folder, spec, [gpu for gpu in gpus if gpu.gpu in errors])
        made.write_text(json.dumps(cdi_spec.merged(documents, kept)))
        return errors

    def _kept(self, folder: Folder, spec: CdiSpec, failed: Iterable[Wanted]) -> list[Document]:
        """Return the present devices of GPUs for which the tool failed; one may only be slow."""
        if self.settings.device_names != DeviceIdStrategy.UUID:
            return []  # an index may mean another GPU by now
        names = {name for gpu in failed for name in gpu.names} - self.task.outdated
        present = cdi_spec.devices(cdi_spec.read(_present(folder, spec), spec.kind))
        return [device for device in present if device["name"] in names]

    def _forget_outdated(self, folder: Folder, spec: CdiSpec) -> None:
        """Remove devices that are gone: another device may get the name of such a device."""
        present = cdi_spec.read(_present(folder, spec), spec.kind)
        named = cdi_spec.devices(present)
        left = [device for device in named if device["name"] not in self.task.outdated]
        if len(left) < len(named):
            _replace(folder, spec, json.dumps({**present, "devices": left}).encode())

    def _generate(
        self, spec: CdiSpec, made: Path, flags: Iterable[str] = (), limit: float = math.inf
    ) -> Document:
        settings, way = cdi_spec.in_mode(self.settings, spec, self.task.mode)
        command = cdi_spec.generation(self.tool, settings, way, self.here, made)
        if way.mode == CSV:
            command += csv_files(self.here.driver)
        self._run([*command, *flags], made.parent, limit)
        return cdi_spec.check(_content(made), spec.kind)

    def _run(self, command: list[str], work: Path, limit: float = math.inf) -> None:
        self.runs.run(command, work, min(limit, self.limit, self.deadline - time.monotonic()))


def _replace(folder: Folder, spec: CdiSpec, content: bytes) -> bool:
    """Replace the file of *spec*; return False if it has this *content* already."""
    if _present(folder, spec) == content:
        return False  # each write makes the runtimes, which watch the folder, reload
    folder.write(spec.path.name, content, 0o644)
    return True


def _present(folder: Folder, spec: CdiSpec) -> bytes:
    """Return the content of the file; empty if there is none, or if other users wrote it or can.

    The folder may have been open to other users before.
    """
    with contextlib.suppress(OSError):
        content = folder.read(spec.path.name)
        if not folder.status(spec.path.name).st_mode & WRITABLE:
            return content
    return b""


def _content(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""
