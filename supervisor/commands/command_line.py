"""The command line: all commands and options, and one clear line for each mistake."""

import argparse
import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from proto.control import ExitCode
from supervisor.commands.printing import complain
from supervisor.config import hints
from supervisor.config.option import Option
from supervisor.config.options import OPTIONS

RUNTIME_DIR = "/run/gpu-sharing-plugin"


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line, without the whole usage."""

    fill: Callable[["Parser"], None] | None = None
    """Adds the arguments of this command if it is given; all of them take 10 ms of a start."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse *args*, after the arguments have been added."""
        if self.fill:
            fill, self.fill = self.fill, None
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print *message* and exit with USAGE."""
        line = f"cannot understand the command line: {message}; see {self.prog} --help"
        complain(line)
        sys.exit(ExitCode.USAGE)


@functools.cache
def parser(version: str) -> Parser:
    """Return the parser of all commands."""
    top = Parser(prog="gpu-sharing-plugin", description=__doc__, allow_abbrev=False)
    top.description = "Kubernetes device plugin: shares GPUs, watches and shows their health."
    top.add_argument("-v", "--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_command(commands, "run", "run the service").fill = _add_options
    _add_command(
        commands,
        "check-config",
        "check all settings of `run`; print the settings of the configuration file as JSON",
    ).fill = _add_options
    _add_mps(commands)
    xids = _add_command(commands, "xids", "print which Xids are fatal with the settings of `run`")
    xids.epilog = "Run this command with the same options and environment variables as `run`."
    xids.add_argument("--json", action="store_true", help="print a JSON list")
    xids.fill = _add_options
    _add_labels(commands)
    simulate = _add_command(
        commands, "simulate", "run the service on a simulated node; needs no root and no GPU"
    )
    simulate.epilog = (
        "`simulate` also takes the options of `run`, except --runtime-dir, --state-dir, "
        "--device-plugin-path and --mps-root: it creates its own folders. The line `try` shows the "
        "runtime folder. If the configuration shares devices by MPS, `simulate` also runs `mps`, "
        "with a simulated MPS control daemon."
    )
    simulate.add_argument("--node", metavar="FILE", help="node file; default: 8 x H100 80GB")
    simulate.add_argument(
        "--duration", type=float, metavar="S", help="stop after S seconds; default: at Ctrl-C"
    )
    _add_status(commands)
    _add_requests(commands)
    _add_command(commands, "drill", "inject a fault into a simulated node").fill = _add_drills
    return top


def _add_command(commands: "argparse._SubParsersAction[Parser]", name: str, text: str) -> Parser:
    return commands.add_parser(name, help=text, description=text, allow_abbrev=False)


def _add_mps(commands: "argparse._SubParsersAction[Parser]") -> None:
    mps = _add_command(
        commands, "mps", "run the service that keeps the MPS daemons, beside `run` on each node"
    )
    mps.epilog = (
        "Run this command with the same options and environment variables as `run`, but another "
        "--state-dir, and another --metrics-address if you set one. `mps apply --now` asks this "
        "service to replace or end at once each MPS daemon that waits for its clients to end: the "
        "clients get an error."
    )
    mps.add_argument("action", nargs="?", choices=["apply"], help="see below")
    mps.add_argument("--now", action="store_true", help="with `apply`: do not wait for clients")
    mps.fill = _add_options


def _add_labels(commands: "argparse._SubParsersAction[Parser]") -> None:
    node_labels = _add_command(
        commands,
        "labels",
        "look at the node once and print its labels, as the settings of `run` make them",
    )
    node_labels.epilog = (
        "Run this command with the same options and environment variables as `run`. It needs no "
        "running service. It waits at most twice health.hangAfter for a driver that hangs."
    )
    node_labels.add_argument(
        "--remove",
        action="store_true",
        help="remove the labels from where --node-labels put them; stop the service first",
    )
    node_labels.fill = _add_options


def _add_status(commands: "argparse._SubParsersAction[Parser]") -> None:
    status = _add_command(
        commands, "status", "print the health of the GPUs and which containers hold them"
    )
    status.add_argument("--json", action="store_true", help="print JSON, see docs/status.md")
    status.add_argument(
        "--watch", action="store_true", help="print the status every 2 seconds, until Ctrl-C"
    )
    status.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 1 unless the plugin is live and ready and all devices are healthy",
    )
    _add_runtime_dir(status)


def _add_runtime_dir(command: argparse.ArgumentParser) -> None:
    text = "runtime folder; default: %(default)s"
    command.add_argument("--runtime-dir", metavar="DIR", default=RUNTIME_DIR, help=text)


def _add_requests(commands: "argparse._SubParsersAction[Parser]") -> None:
    texts = {
        "quiesce": "stop the health monitor so that GPUs can be reset; all devices are Unhealthy "
        "until `resume`",
        "resume": "start the health monitor again after `quiesce`",
        "mark-healthy": "clear the faults of a device that you repaired (no proof is needed)",
    }
    for name, text in texts.items():
        request = _add_command(commands, name, text)
        if name == "mark-healthy":
            request.add_argument(
                "device", metavar="DEVICE", help="UUID, index, or GPU:MIG (indices)"
            )
        _add_runtime_dir(request)


def _add_drills(command: argparse.ArgumentParser) -> None:
    # Imported only here: a service needs nothing of the simulation.
    importlib.import_module("simulator.drill").add_arguments(command)


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
    """Return the given options by their path in the settings."""
    paths = {option.path for option in OPTIONS}
    given = {path: value for path, value in vars(known).items() if path in paths}
    return {p: ",".join(v) if isinstance(v, list) else v for p, v in given.items()}


def unknown(arguments: Sequence[str]) -> str:
    """Return the *arguments* that no command knows, with the flag that may be meant."""
    flags = [flag for option in OPTIONS for flag in option.flags]
    near = [hints.closest(name.partition("=")[0], flags) for name in arguments if name[:2] == "--"]
    meant = [flag for flag in near if flag]
    return " ".join(arguments) + (f"; did you mean {', '.join(meant)}?" if meant else "")
