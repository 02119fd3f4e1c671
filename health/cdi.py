"""Have NVIDIA's toolkit write the CDI specifications, and put each in its place in one piece.

Flags and habits are those of nvidia-ctk 1.18 to 1.20. To the name of an output file that ends in
neither .json nor .yaml it appends one, and runtimes read every file of such a name. So it works in
a folder of its own beside the specifications: runtimes do not look into folders.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from proto import host
from proto.host import die_with
from proto.monitor import CdiSettings

TOOL = "nvidia-ctk"
GPUS = "nvml"
"""The tool's mode for GPUs and MIG instances."""

CLASSES = {"imex": "imex-channel"}
"""The class of a mode's devices, where it is not called like the mode."""

COMMAND_LIMIT = 30.0
"""Seconds for one run of the tool."""

TOTAL_LIMIT = 60.0
"""Seconds for all runs: a monitor has 120 to start, and a slow driver needs its part of them."""

KILL_LIMIT = 2.0
"""Seconds to wait for the end of a killed tool, which the driver may hold up."""

TAIL = 4096
"""Bytes of the tool's output in which its reason is looked for."""

REASON_LIMIT = 300

NOTHING_THERE = ("empty device edits", "no devices")
"""What the tool says when the node has nothing to put into a specification."""


class CdiError(Exception):
    """A specification cannot be made."""


class NothingThereError(CdiError):
    """The node has no such devices."""


@dataclass(frozen=True, slots=True)
class CdiSpec:
    """A specification to write."""

    mode: str
    kind: str
    path: Path


@dataclass(frozen=True, slots=True)
class DriverRoots:
    """Where the driver and the folder dev of its devices are, as this process sees it."""

    driver: str
    dev: str


def specs(settings: CdiSettings) -> tuple[CdiSpec, ...]:
    """Return the specifications to write, that of the GPUs first."""
    classes = [(GPUS, settings.device_class)]
    classes += [(mode, CLASSES.get(mode, mode)) for mode in settings.modes]
    folder, vendor = Path(settings.spec_folder), settings.vendor
    return tuple(
        CdiSpec(mode, f"{vendor}/{name}", folder / f"{vendor}-{name}.json")
        for mode, name in classes
    )


def generation(
    tool: str, settings: CdiSettings, spec: CdiSpec, here: DriverRoots, to: Path
) -> list[str]:
    """Return the command that writes *spec* to the file *to*."""
    vendor, _, name = spec.kind.partition("/")
    return [
        *(tool, "cdi", "generate"),
        f"--mode={spec.mode}",
        f"--vendor={vendor}",
        f"--class={name}",
        f"--device-name-strategy={settings.device_names}",
        f"--driver-root={here.driver}",
        f"--dev-root={here.dev}",
        f"--nvidia-cdi-hook-path={settings.hook_path}",
        *(f"--feature-flag={flag}" for flag in settings.feature_flags),
        *(f"--disable-hook={hook}" for hook in settings.disabled_hooks),
        "--format=json",
        f"--output={to}",
    ]


def rewriting(tool: str, source: str, target: str, file: Path) -> list[str]:
    """Return the command that moves the host's paths in *file* from below *source* to *target*."""
    return [
        *(tool, "cdi", "transform", "root", "--relative-to=host"),
        *(f"--from={source}", f"--to={target}", f"--input={file}", f"--output={file}"),
    ]


def rewrites(settings: CdiSettings, here: DriverRoots) -> tuple[tuple[str, str], ...]:
    """Return which roots to replace, and by which, so that the paths are the host's."""
    driver = (os.path.normpath(here.driver), os.path.normpath(settings.driver_root))
    pairs = [driver]
    if (here.dev, settings.dev_root) != (here.driver, settings.driver_root):
        # First: where the device nodes are below the driver's root here, that rule takes them too.
        pairs.insert(0, (_dev(here.dev), _dev(settings.dev_root)))
    return tuple((source, target) for source, target in pairs if source not in ("/", target))


def _dev(root: str) -> str:
    return os.path.normpath(f"{root.rstrip('/').removesuffix('/dev')}/dev")


def check(content: bytes, kind: str) -> None:
    """Raise CdiError unless *content* is a specification of *kind*."""
    if not content:
        raise CdiError(f"cannot use the output of {TOOL}: the file is empty")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CdiError(f"cannot use the output of {TOOL}: it is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise CdiError(f"cannot use the output of {TOOL}: its kind is not {kind}")


def reason(output: bytes) -> str:
    """Return the last line of the tool's output, of a log line its message."""
    lines = output.decode(errors="replace").strip().splitlines() or ["no output"]
    message = re.search(r'\bmsg="(.*)"$', lines[-1])
    return message[1].replace('\\"', '"') if message else lines[-1].strip()


def write_all(
    settings: CdiSettings, limit: float = COMMAND_LIMIT, total: float = TOTAL_LIMIT
) -> tuple[str, ...]:
    """Write all specifications, log what cannot be, and return the kinds that are up to date.

    It forks, so no other thread may run in this process.
    """
    wanted = specs(settings)
    tool = find_tool(settings)
    if tool is None:
        logger.warning(
            "cannot write CDI specifications: nvidia-ctk is not installed",
            files=[str(spec.path) for spec in wanted],
        )
        return ()
    toolkit = Toolkit(tool, settings, roots_here(settings), limit, time.monotonic() + total)
    return tuple(spec.kind for spec in wanted if _is_written(toolkit, spec))


def _is_written(toolkit: "Toolkit", spec: CdiSpec) -> bool:
    file = str(spec.path)
    try:
        changed = toolkit.write(spec)
    except NothingThereError as error:
        if spec.mode == GPUS:
            logger.error(
                "cannot write the CDI specification of the GPUs: nvidia-ctk found none",
                file=file,
                error=str(error),
            )
        else:
            logger.warning(
                "skipped a CDI specification: the node has no such devices",
                file=file,
                error=str(error),
            )
        return False
    except (CdiError, OSError) as error:
        logger.error("cannot write a CDI specification", file=file, error=str(error))
        return False
    logger.info("CDI specification is up to date", file=file, changed=changed)
    return True


def find_tool(settings: CdiSettings) -> str | None:
    """Return the toolkit's command: on PATH, in the driver's root, or beside the hook."""
    places = (
        TOOL,
        str(Path(settings.container_driver_root, "usr/bin", TOOL)),
        str(Path(settings.hook_path).parent / TOOL),
    )
    return next(filter(None, map(shutil.which, places)), None)


def roots_here(settings: CdiSettings) -> DriverRoots:
    """Return the roots as this process sees them: the host's unless they are mounted for it."""
    mounted = settings.container_driver_root
    if mounted == "/" or not Path(mounted).is_dir():
        return DriverRoots(settings.driver_root, settings.dev_root)
    return DriverRoots(mounted, mounted if Path(mounted, "dev").is_dir() else "/")


@dataclass(frozen=True, slots=True)
class Toolkit:
    """NVIDIA's tool, and how it is used."""

    tool: str
    settings: CdiSettings
    here: DriverRoots
    limit: float
    deadline: float

    def write(self, spec: CdiSpec) -> bool:
        """Put *spec* in its place and return True, or False when it is there already."""
        _prepare(spec.path.parent)
        work = spec.path.with_name(f".{spec.path.stem}.work")
        shutil.rmtree(work, ignore_errors=True)  # of a monitor that was killed
        work.mkdir()
        try:
            made = work / "spec.json"
            self._make(spec, made)
            if _content(spec.path) == made.read_bytes():
                return False  # runtimes watch the folder
            made.chmod(0o644)
            made.replace(spec.path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return True

    def _make(self, spec: CdiSpec, made: Path) -> None:
        self._run(generation(self.tool, self.settings, spec, self.here, made), made.parent)
        for source, target in rewrites(self.settings, self.here):
            self._run(rewriting(self.tool, source, target, made), made.parent)
        check(_content(made), spec.kind)

    def _run(self, command: list[str], work: Path) -> None:
        limit = min(self.limit, self.deadline - time.monotonic())
        if limit <= 0:
            raise CdiError(f"cannot run {self.tool}: earlier runs used up the time limit")
        # Into a file: a pipe would be held open by a process that outlives the tool.
        with (work / "log").open("w+b") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=functools.partial(die_with, os.getpid()),  # noqa: PLW1509 - no threads
            )
            code = _end_of(process, limit)
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
            said = reason(log.read())
        if code is None:
            raise CdiError(f"cannot run {self.tool}: killed after {limit:.1f} s without a result")
        if code:
            failure = NothingThereError if any(x in said for x in NOTHING_THERE) else CdiError
            raise failure(f"cannot run {self.tool}, exit code {code}: {said[:REASON_LIMIT]}")


def _prepare(folder: Path) -> None:
    """Have the folder, which runtimes of any user read and nobody else writes into."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    host.require_safe(folder)


def _content(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _end_of(process: "subprocess.Popen[bytes]", limit: float) -> int | None:
    """Return the exit code, or None after killing a process that takes longer, and its own."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(limit)
    os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_LIMIT)
    return None
