"""Search with all targets for input that breaks a promise, each with a new seed."""

import argparse
import os
import re
import resource
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.patience import ended
from tests.fuzz.targets import TARGETS

WORK = Path(".fuzz")
PATIENCE = 120.0
"""Seconds without processor time, or of it beyond its time, after which a target hangs."""
SLOWEST = 10
"""Seconds after which an input counts as hanging."""
LINE = "{:<18} {:>10} {:>11} {:>10} {:>7}  {}"


@dataclass(frozen=True)
class Run:
    """What the run of a target came to."""

    target: str
    seed: int
    executions: int
    cpu: float
    """Seconds."""
    overhead: float
    """Seconds beyond the time in which inputs were run."""
    found: tuple[Path, ...]
    failed: bool
    hangs: bool
    """Whether it did not end; the end of the log says where it was, in an input or outside."""
    log: Path

    def line(self) -> str:
        """Return a line of the table."""
        rate = round(self.executions / self.cpu) if self.cpu else 0
        ended = "hangs" if self.hangs else "failed" if self.failed else ""
        found = ", ".join(map(str, self.found)) or (f"{ended}, see {self.log}" if ended else "")
        cpu = f"{self.cpu:.0f}"
        return LINE.format(self.target, self.seed, self.executions, rate, cpu, found or "nothing")


def main() -> int:
    """Run the targets one after the other; return 1 if something was found."""
    given = _arguments()
    targets: list[str] = given.targets or list(TARGETS)
    end = time.monotonic() + (given.total or given.seconds * len(targets))
    print(LINE.format("target", "seed", "executions", "per CPU s", "CPU s", "found"))  # noqa: T201
    runs: list[Run] = []
    for place, target in enumerate(targets):
        overhead = runs[-1].overhead if runs and given.total else 0.0
        share = (end - time.monotonic()) / (len(targets) - place) if given.total else given.seconds
        runs.append(_run(target, max(round(share - overhead), 1)))
        print(runs[-1].line(), flush=True)  # noqa: T201
    bad = [run for run in runs if run.found or run.failed]
    executions = sum(run.executions for run in runs)
    print(f"\n{executions} executions of {len(runs)} targets; {len(bad)} targets found something")  # noqa: T201
    return 1 if bad else 0


def _run(target: str, seconds: int) -> Run:
    """Run a target in a process of its own, as what it finds ends the process."""
    corpus, found, log = (WORK / kind / target for kind in ("corpus", "found", "log"))
    kept = Path(__file__).with_name("regressions") / target
    for folder in (corpus, found, log.parent, kept):
        folder.mkdir(parents=True, exist_ok=True)
    before, began, used = set(found.iterdir()), time.monotonic(), _cpu()
    seed = secrets.randbelow(1 << 31) + 1
    limits = [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", "-rss_limit_mb=1024"]
    form = ["-max_len=8192", "-print_final_stats=1", f"-seed={seed}", f"-artifact_prefix={found}/"]
    command = [sys.executable, "-m", "tests.fuzz.main", target, *limits, *form]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, str(corpus), str(kept)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": f".:{WORK}/atheris"},
        )
        hangs = not ended(process, seconds, PATIENCE)
    text = log.read_text(errors="replace")
    counts = re.findall(r"^#(\d+)\t|number_of_executed_units: +(\d+)", text, re.MULTILINE)
    executions = max((int(a or b) for a, b in counts), default=0)
    new = tuple(sorted(set(found.iterdir()) - before))
    overhead = time.monotonic() - began - seconds
    failed = bool(process.returncode)
    return Run(target, seed, executions, _cpu() - used, overhead, new, failed, hangs, log)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--total", type=float, help="seconds for all targets and their starts")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}"
        )
    return given


if __name__ == "__main__":
    sys.exit(main())
