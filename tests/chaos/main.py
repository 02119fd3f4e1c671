"""Inject faults into the service on a simulated node, and check the service after each fault."""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.kinds import KINDS
from tests.chaos.mps_run import Times, mps_run, mps_schedule, mps_table
from tests.chaos.mps_world import MpsViolationError
from tests.chaos.runner import Results, ViolationError, run
from tests.chaos.schedule import Step, pairs, schedule
from tests.fakes.service import short_folder


def table(results: Results) -> str:
    """Return the results as a Markdown table, in milliseconds."""
    lines = [
        "| fault | count | median, worst (ms) | after the repair: median, worst (ms) |",
        "|---|---|---|---|",
    ]
    for kind in KINDS.values():
        took = results.faults.get(kind.name, [])
        if took:
            back = _times(results.repairs.get(kind.name, []))
            lines.append(f"| {kind.name} | {len(took)} | {_times(took)} | {back} |")
    return "\n".join(lines)


def _times(seconds: list[float]) -> str:
    if not seconds:
        return ""
    return f"{statistics.median(seconds) * 1000:.0f}, {max(seconds) * 1000:.0f}"


def main() -> int:
    """Run, print the table, and return the exit code."""
    given = _arguments()
    if given.mps:
        return _mps(given)
    results, code = Results(), 0
    try:
        steps = _steps(given)
    except ValueError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    try:
        with short_folder() as folder:
            asyncio.run(run(folder, given.seed, steps, given.noise, results))
    except ViolationError as error:
        print(f"cannot finish the run with --seed {given.seed}: {error}", file=sys.stderr)  # noqa: T201
        code = 1
    except KeyboardInterrupt:
        code = 130
    if given.json:
        given.json.write_text(json.dumps({"faults": results.faults, "repairs": results.repairs}))
    print(table(results))  # noqa: T201
    print(f"\nseed {given.seed}: {results.happened} faults; {results.admitted} pods admitted")  # noqa: T201
    return code


def _mps(given: argparse.Namespace) -> int:
    times: Times = {}
    code = 0
    try:
        asyncio.run(mps_run(mps_schedule(given.seed, given.faults), given.seed, given.noise, times))
    except MpsViolationError as error:
        print(f"cannot finish the run with --seed {given.seed}: {error}", file=sys.stderr)  # noqa: T201
        code = 1
    except KeyboardInterrupt:
        code = 130
    print(mps_table(times))  # noqa: T201
    return code


def _steps(given: argparse.Namespace) -> Sequence[Step]:
    if given.only and given.pair:
        return pairs(KINDS, (given.only, given.pair), given.seed, given.faults)
    kinds = {given.only: KINDS[given.only]} if given.only else KINDS
    return schedule(kinds, given.seed, given.faults)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides which faults happen")
    parser.add_argument("--faults", type=int, default=60, help="number of faults, at least")
    parser.add_argument("--mps", action="store_true", help="inject the faults of MPS instead")
    parser.add_argument("--noise", type=float, default=5.0, help="factor for the time limits")
    parser.add_argument("--json", type=Path, help="write all times in seconds to this file")
    parser.add_argument("--only", choices=KINDS, metavar="FAULT", help="inject only this fault")
    parser.add_argument(
        "--with", dest="pair", choices=KINDS, metavar="FAULT", help="inject --only with this fault"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
