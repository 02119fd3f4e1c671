"""Generate the CDI specifications with nvidia-ctk, and replace each file atomically.

Flags and behaviour are those of nvidia-ctk 1.18 to 1.20. It appends .json or .yaml to an output
file without such an ending, and container runtimes read every file with one. So it works in a
subfolder beside the specifications, which runtimes ignore.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from proto import host
from proto.monitor import CdiSettings

TOOL = "nvidia-ctk"
GPUS = "nvml"
"""The mode of nvidia-ctk for GPUs and MIG instances."""

CLASSES = {"imex": "imex-channel"}
"""The CDI class of a mode, where the class and the mode have different names."""

COMMAND_LIMIT = 30.0
"""Time limit in seconds for one run of nvidia-ctk."""

TOTAL_LIMIT = 60.0
"""Time limit in seconds for all runs: a monitor has 120 s to start, with a slow driver too."""

KILL_LIMIT = 2.0
"""Seconds to wait for a killed nvidia-ctk to end; a hanging driver may delay that."""

DYING_WITH_US = (sys.executable, "-I", "-S", host.__file__)
"""The command that runs nvidia-ctk so that it ends with this process.

Not preexec_fn: it runs Python code after the fork, which may deadlock in a process with threads.
"""

TAIL = 4096
"""Bytes at the end of the output that are searched for the error."""

REASON_LIMIT = 300

NOTHING_THERE = ("empty device edits", "no devices")
"""How nvidia-ctk says that the node has no devices for a specification."""


class CdiError(Exception):
    """A specification cannot be generated."""


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
    """Paths of the driver root and the root of its /dev, as this process sees them."""

    driver: str
    dev: str


def specs(settings: CdiSettings) -> tuple[CdiSpec, ...]:
    """Return the specifications to write, starting with that of the GPUs."""
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
    """Return the nvidia-ctk command that writes *spec* to the file *to*."""
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
    """Return the nvidia-ctk command that moves host paths from root *source* to *target*."""
    return [
        *(tool, "cdi", "transform", "root", "--relative-to=host"),
        *(f"--from={source}", f"--to={target}", f"--input={file}", f"--output={file}"),
    ]


def rewrites(settings: CdiSettings, here: DriverRoots) -> tuple[tuple[str, str], ...]:
    """Return the pairs (root in this process, root on the host) to replace in a specification."""
    driver = (os.path.normpath(here.driver), os.path.normpath(settings.driver_root))
    pairs = [driver]
    if (here.dev, settings.dev_root) != (here.driver, settings.driver_root):
        # First: the rule of the driver root would also match device nodes below that root.
        pairs.insert(0, (_dev(here.dev), _dev(settings.dev_root)))
    return tuple((source, target) for source, target in pairs if source not in ("/", target))


def _dev(root: str) -> str:
    return os.path.normpath(f"{root.rstrip('/').removesuffix('/dev')}/dev")


def check(content: bytes, kind: str) -> None:
    """Raise CdiError unless *content* is a CDI specification of *kind*."""
    if not content:
        raise CdiError(f"cannot use the output of {TOOL}: the file is empty")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CdiError(f"cannot use the output of {TOOL}: it is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise CdiError(f"cannot use the output of {TOOL}: its kind is not {kind}")


def reason(output: bytes) -> str:
    """Return the last line of the output of nvidia-ctk, or the message if it is a log line."""
    lines = output.decode(errors="replace").strip().splitlines() or ["no output"]
    message = re.search(r'\bmsg="(.*)"$', lines[-1])
    return message[1].replace('\\"', '"') if message else lines[-1].strip()


def write_all(
    settings: CdiSettings, limit: float = COMMAND_LIMIT, total: float = TOTAL_LIMIT
) -> tuple[str, ...]:
    """Write all specifications, log failures, and return the CDI kinds that are up to date."""
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
    """Return the path of nvidia-ctk: on PATH, in the driver root, or beside the hook."""
    places = (
        TOOL,
        str(Path(settings.container_driver_root, "usr/bin", TOOL)),
        str(Path(settings.hook_path).parent / TOOL),
    )
    return next(filter(None, map(shutil.which, places)), None)


def roots_here(settings: CdiSettings) -> DriverRoots:
    """Return the roots as this process sees them: those of the host, or where they are mounted."""
    mounted = settings.container_driver_root
    if mounted == "/" or not Path(mounted).is_dir():
        return DriverRoots(settings.driver_root, settings.dev_root)
    return DriverRoots(mounted, mounted if Path(mounted, "dev").is_dir() else "/")


@dataclass(frozen=True, slots=True)
class Toolkit:
    """Runs nvidia-ctk with the settings, within the time limits."""

    tool: str
    settings: CdiSettings
    here: DriverRoots
    limit: float
    deadline: float

    def write(self, spec: CdiSpec) -> bool:
        """Write *spec*; return False if the file has this content already."""
        _prepare(spec.path.parent)
        work = spec.path.with_name(f".{spec.path.stem}.work")
        shutil.rmtree(work, ignore_errors=True)  # left by a killed monitor
        work.mkdir()
        try:
            made = work / "spec.json"
            self._make(spec, made)
            if _content(spec.path) == made.read_bytes():
                return False  # each write makes the runtimes, which watch the folder, reload
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
        # Into a file: a process that outlives the tool would keep a pipe open.
        with (work / "log").open("w+b") as log:
            process = subprocess.Popen(
                [*DYING_WITH_US, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
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
    """Create the folder: runtimes of any user may read it, other users must not write to it."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    host.require_safe(folder)


def _content(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _end_of(process: "subprocess.Popen[bytes]", limit: float) -> int | None:
    """Return the exit code, or None after killing a process over the limit and its children."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(limit)
    os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_LIMIT)
    return None
