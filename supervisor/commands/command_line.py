"""The command line: what can be typed, and one clear line for what cannot."""

import argparse
import sys
from typing import Any, NoReturn

from proto.control import ExitCode
from simulator import drill
from supervisor.config.option import Option
from supervisor.config.options import OPTIONS

RUNTIME_DIR = "/run/gpu-sharing-plugin"


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
    check = commands.add_parser(
        "check-config", help="print the settings that `run` would go by", allow_abbrev=False
    )
    _add_options(check)
    xids = commands.add_parser(
        "xids",
        help="print which Xids `run` would hold to be fatal",
        epilog="It takes the options of `run`, and its environment.",
        allow_abbrev=False,
    )
    xids.add_argument("--json", action="store_true", help="as a JSON list")
    _add_options(xids)
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
    _add_status(commands)
    _add_requests(commands)
    faults = commands.add_parser(
        "drill", help="put a fault into a simulated node", allow_abbrev=False
    )
    drill.add_arguments(faults)
    return top


def _add_status(commands: "argparse._SubParsersAction[Parser]") -> None:
    text = "how the GPUs of the running service are, and who holds them"
    status = commands.add_parser("status", help=text, description=text, allow_abbrev=False)
    status.add_argument("--json", action="store_true", help="as JSON, see docs/status.md")
    status.add_argument(
        "--exit-code", action="store_true", help="exit with 1 unless everything is healthy"
    )
    status.add_argument("--runtime-dir", default=RUNTIME_DIR, help="of the service")


def _add_requests(commands: "argparse._SubParsersAction[Parser]") -> None:
    texts = {
        "quiesce": "end the health monitor, so that the driver is free; devices are Unhealthy",
        "resume": "start the health monitor again",
        "mark-healthy": "take a device back whose faults are mended, without the driver's proof",
    }
    for name, text in texts.items():
        request = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name == "mark-healthy":
            request.add_argument("device", metavar="DEVICE", help="UUID, index, or GPU:MIG")
        request.add_argument("--runtime-dir", default=RUNTIME_DIR, help="of the service")


def _add_options(run: argparse.ArgumentParser) -> None:
    for option in OPTIONS:
        names = f" [{', '.join(option.environment)}]" if option.environment else ""
        run.add_argument(
            *option.flags,
            dest=option.path,
            default=argparse.SUPPRESS,
            metavar="true|false" if option.switch else option.flags[0].rpartition("-")[2].upper(),
            **_form(option),
            help=f"{option.help}{names}".replace("%", "%%"),
        )


def _form(option: Option) -> dict[str, Any]:
    if option.switch:
        return {"nargs": "?", "const": "true"}
    return {"action": "append"} if option.repeatable else {}


def values(known: argparse.Namespace) -> dict[str, str]:
    """Return the options that were given, by their place in the settings."""
    paths = {option.path for option in OPTIONS}
    given = {path: value for path, value in vars(known).items() if path in paths}
    return {p: ",".join(v) if isinstance(v, list) else v for p, v in given.items()}
