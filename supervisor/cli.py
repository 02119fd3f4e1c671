"""The command line: what can be typed, and one clear line for what cannot."""

import argparse
import sys
from typing import NoReturn

from proto.control import ExitCode
from simulator import drill
from supervisor.options import OPTIONS


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one line what is wrong, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print *message* and exit with USAGE."""
        line = f"cannot understand the command line: {message}; see {self.prog} --help"
        print(line, file=sys.stderr)  # noqa: T201 - there is no log before there are settings
        sys.exit(ExitCode.USAGE)


def parser(version: str) -> Parser:
    """Return the parser of all commands."""
    top = Parser(prog="gpu-sharing-plugin", description=__doc__, allow_abbrev=False)
    top.description = "GPU device plugin for Kubernetes: sharing, health, visibility."
    top.add_argument("-v", "--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="the service", allow_abbrev=False)
    _add_options(run)
    simulate = commands.add_parser(
        "simulate",
        help="the service on a simulated node with a stand-in kubelet; no root, no GPU",
        epilog="Every other option of `run` is handed on to the service.",
        allow_abbrev=False,
    )
    simulate.add_argument("--node", metavar="FILE", help="node file; by default 8 x H100 80GB")
    simulate.add_argument(
        "--duration", type=float, metavar="S", help="seconds; by default until Ctrl-C"
    )
    faults = commands.add_parser(
        "drill", help="put a fault into a simulated node", allow_abbrev=False
    )
    drill.add_arguments(faults)
    return top


def _add_options(run: argparse.ArgumentParser) -> None:
    for option in OPTIONS:
        names = f" [{', '.join(option.environment)}]" if option.environment else ""
        run.add_argument(
            *option.flags,
            dest=option.path,
            default=argparse.SUPPRESS,
            metavar="true|false" if option.switch else option.flags[0].rpartition("-")[2].upper(),
            nargs="?" if option.switch else None,
            const="true" if option.switch else None,
            help=f"{option.help}{names}".replace("%", "%%"),
        )
