"""Measure the service on this machine and compare the figures with their budgets."""

import argparse
import compileall
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.bench import calls, compare, footprint, growth, mps, reactions, report, usage
from tests.bench.plugin import MeasureError, Plugin, other
from tests.bench.rows import Figures
from tests.fakes import nvml_library

PACKAGES = ("health", "proto", "simulator", "supervisor", "workers")

Measurement = Callable[[Plugin], Figures]


def shared(*, quick: bool) -> dict[str, Measurement]:
    """Return the measurements that work with every plugin."""
    few, many = (50, 3) if quick else (500, 13)
    return {
        "calls": lambda plugin: calls.of_whole_gpus(plugin, few),
        "replicas": lambda plugin: calls.of_replicas(plugin, few),
        "starts": lambda plugin: reactions.of_starts(plugin, many),
        "kubelet": lambda plugin: reactions.of_kubelet_restarts(plugin, 5 if quick else 34),
        "footprint": lambda plugin: footprint.of_one_resource(plugin, 1000, 5 if quick else 30),
    }


def own(sampled: Plugin | None = None, *, quick: bool) -> dict[str, Measurement]:
    """Return the measurements that need a simulated node or the processes of our plugin.

    *sampled* is our plugin on the NVML stand-in.
    """
    sampled = sampled or Plugin()
    few, many = (50, 3) if quick else (500, 7)
    return {
        "burst": lambda _: calls.of_bursts(sampled, 1 if quick else 5),
        "topology": lambda plugin: calls.of_topology(plugin, few),
        "worker": lambda plugin: reactions.of_worker_crashes(plugin, many),
        "large": lambda plugin: reactions.of_large_lists(plugin, many),
        "mps": lambda _: mps.of_starts(2 if quick else 10),
        "usage": lambda _: usage.of_sampling(sampled, 5 if quick else 30),
        "attribution": lambda plugin: usage.of_attribution(plugin, 20 if quick else 100),
        "resources": lambda plugin: footprint.of_more_resources(plugin, 300),
    }


def measure(given: argparse.Namespace, library: Path) -> tuple[Figures, Figures]:
    """Return the figures of our plugin, and of the other plugin if one is given."""
    ours, plain = Plugin(library=library), Plugin()
    rival = other(given.other, library) if given.other else None
    figures: Figures = {}
    theirs: Figures = {}
    for run in range(1 if given.quick else given.runs):
        steps = [(name, ours, work, figures) for name, work in shared(quick=given.quick).items()]
        if rival:  # alternate, so that a busy hour of the machine affects both
            steps += [
                (name, rival, work, theirs) for name, work in shared(quick=given.quick).items()
            ]
            steps.sort(key=lambda step: step[0])
        steps += [
            (name, plain, work, figures) for name, work in own(ours, quick=given.quick).items()
        ]
        for name, plugin, work, into in steps:
            if given.only in (None, name):
                whose = "ours" if plugin.ours else "other"
                print(f"run {run + 1}: {name}, {whose}", file=sys.stderr)  # noqa: T201
                for key, values in work(plugin).items():
                    into.setdefault(key, []).extend(values)
    return figures, theirs


def compile_packages() -> None:
    """Write the bytecode of our packages, which an installation has too.

    Without it, each start compiles them all, where the environment forbids Python to keep it.
    """
    for package in PACKAGES:
        compileall.compile_dir(package, quiet=1)


def main() -> int:
    """Measure or compare what the command line asks for; return the exit code."""
    names = [*shared(quick=True), *own(quick=True)]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=3, help="number of runs")
    parser.add_argument("--quick", action="store_true", help="do one short run")
    parser.add_argument("--only", choices=names, help="do only this measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="tell what changed since this report; with two, OLD and NEW, without measuring",
    )
    parser.add_argument(
        "--other", metavar="COMMAND", help="also measure this plugin, on the same NVML stand-in"
    )
    parser.add_argument(
        "--growth", type=Path, metavar="FOLDER", help="measure growth curves, write them here"
    )
    given = parser.parse_args()
    if given.compare and len(given.compare) > 2:
        parser.error("cannot compare more than two reports: give one, or OLD and NEW")
    try:
        reports = [report.read(path) for path in given.compare or ()]
    except report.ReportError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    if len(reports) > 1:
        print(*compare.words(reports[0], reports[-1]), sep="\n")  # noqa: T201
        return 0
    return bench(given, reports[0] if reports else None)


def bench(given: argparse.Namespace, earlier: report.Report | None) -> int:
    """Do what is *given*, and compare with an *earlier* report; return the exit code."""
    if os.geteuid() != 0:
        print("cannot read /proc/*/pagemap to measure memory: run as root", file=sys.stderr)  # noqa: T201
        return 2
    if given.growth:
        growth.run(given.growth)
        return 0
    compile_packages()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        nvml_library.build(Path(folder))
        try:
            figures, theirs = measure(given, Path(folder))
        except MeasureError as error:
            print(error, file=sys.stderr)  # noqa: T201
            return 1
    result = report.Report(report.machine(), load, figures, theirs)
    if given.json:
        given.json.write_bytes(msgspec.json.encode(result))
    print(f"{result.machine}; load {load:.1f}\n", *report.table(result, earlier), sep="\n")  # noqa: T201
    if earlier:
        print("", *compare.words(earlier, result), sep="\n")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
