"""The entry point: parse the command line, read the settings, run the command, exit."""

import argparse
import importlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from loguru import logger

from proto.control import ExitCode, MarkHealthy
from proto.requests import Quiesce, Request, Resume
from simulator import drill, node
from supervisor import compose_cluster, logs, privileges
from supervisor.commands import check_config, command_line, show_xids
from supervisor.commands.ask import AskError, ask
from supervisor.commands.printing import complain, printing, say
from supervisor.compose import compose, source
from supervisor.config import settings
from supervisor.config.refusal import SettingsError
from supervisor.loop import Supervisor
from supervisor.preload import preload
from supervisor.runtime_folder import BusyError, remove_dead_sockets, runtime_folder
from supervisor.title import set_title
from supervisor.version import VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command on the command line and return its exit code."""
    parser = command_line.parser(VERSION)
    with printing():  # the help and the version
        known, rest = parser.parse_known_args(arguments)
    if rest and known.command != "simulate":
        parser.error(f"unrecognized arguments: {command_line.unknown(rest)}")
    try:
        return _do(known, rest)
    except SettingsError as error:
        return _say(error, ExitCode.USAGE)
    except (AskError, BusyError, node.NodeError) as error:
        return _say(error, ExitCode.FAILED)


def _do(known: argparse.Namespace, rest: Sequence[str]) -> int:
    match known.command:
        case "run":
            return _run(command_line.values(known))
        case "check-config":
            return check_config.main(command_line.values(known), os.environ, compose)
        case "xids":
            return _xids(settings.load(command_line.values(known), os.environ), as_json=known.json)
        case "labels":
            wanted = settings.load(command_line.values(known), os.environ)
            return _remove_labels(wanted) if known.remove else _labels(wanted)
        case "simulate":
            return _simulate(known, rest)
        case "status":
            return _status(known)
        case "drill":
            return _tell(drill.run(known))
        case _:
            return _tell(ask(Path(known.runtime_dir), _request(known)))


def _say(error: Exception, code: ExitCode) -> ExitCode:
    complain(str(error))
    return code


def _tell(done: str) -> ExitCode:
    say(done)
    return ExitCode.DONE


def _xids(wanted: settings.Settings, *, as_json: bool) -> int:
    for notice in wanted.notices:
        complain(notice)
    table = show_xids.as_json if as_json else show_xids.as_text
    say(*table(wanted.xids).split("\n"))
    return ExitCode.DONE


def _labels(wanted: settings.Settings) -> int:
    for notice in wanted.notices:
        complain(notice)
    # Imported only here: the process that forks needs no labels.
    show = importlib.import_module("supervisor.commands.show_labels")
    file = compose_cluster.machine_type_file(wanted)
    code: int = show.main(compose(wanted), wanted.node, file)
    return code


def _remove_labels(wanted: settings.Settings) -> int:
    compose(wanted)
    remove = importlib.import_module("supervisor.commands.remove_labels")
    done, code = remove.main(compose_cluster.label_settings(wanted), wanted.service.node_name)
    if code:
        complain(done)
    else:
        say(done)
    return int(code)


def _status(known: argparse.Namespace) -> int:
    # Imported only here: the process that forks needs no HTTP client and no tables.
    folder = Path(known.runtime_dir)
    if known.watch:
        if known.json or known.exit_code:
            raise SettingsError("cannot use --watch with --json or --exit-code: leave one out")
        watch = importlib.import_module("supervisor.commands.watch_status")
        code: int = watch.main(folder)
    else:
        show = importlib.import_module("supervisor.commands.show_status")
        code = show.main(folder, as_json=known.json, judge=known.exit_code)
    return code


def _request(known: argparse.Namespace) -> Request:
    match known.command:
        case "quiesce":
            return Quiesce()
        case "resume":
            return Resume()
        case _:
            return MarkHealthy(known.device)


def _run(flags: Mapping[str, str]) -> int:
    set_title("supervisor")
    # All files created from here on, the workers' sockets too, are for this user and root only.
    os.umask(0o077)
    environment = dict(os.environ)
    wanted = settings.load(flags, environment)
    compose(wanted)  # before a folder or a process is created for settings that cannot work
    logs.set_up("supervisor", wanted.service.log_format, wanted.service.log_level)
    if refused := privileges.keep(privileges.HANDED_ON, dormant=True):
        logger.warning("cannot give up capabilities", reason=refused)
    for notice in wanted.notices:
        logger.warning("ignored a setting", setting=notice)
    with runtime_folder(Path(wanted.service.runtime_dir)):
        preload(api_client=wanted.service.uses_api_server)
        # Reads the settings again, now without capabilities, as at each reload.
        code = Supervisor(source(flags, environment)).run()
        remove_dead_sockets(Path(wanted.service.device_plugin_path))
    # Not return: the interpreter would wait for ever for a child that the kernel cannot kill.
    os._exit(code)


def _simulate(known: argparse.Namespace, rest: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="gpu-sharing-") as folder:
        path = known.node
        if path is None:
            path = f"{folder}/node.json"
            Path(path).write_bytes(msgspec.json.encode(node.default_node()))
        command = [sys.executable, "-m", "supervisor", "run", f"--simulated-node={path}"]
        command += ["--metrics-address=127.0.0.1:0", "--log-level=warning", *rest]
        # Imported only here: it is a gRPC server, which the process that forks must never load.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        simulate = importlib.import_module("simulator.simulate")
        code: int = simulate.main(command, Path(folder), known.duration)
        return code
