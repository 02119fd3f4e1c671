"""The entry point: parse the command line, read the settings, run the command, exit."""

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from loguru import logger

from proto.control import ExitCode, MarkHealthy
from proto.host import is_served
from proto.requests import SOCKET, Apply, Quiesce, Request, Resume
from simulator import node, node_file
from supervisor import compose_cluster, logs, preload, privileges
from supervisor.commands import check_config, command_line, show_xids
from supervisor.commands.ask import AskError, ask
from supervisor.commands.printing import complain, printing, say
from supervisor.compose import compose
from supervisor.config import settings
from supervisor.config.refusal import SettingsError
from supervisor.loop import Supervisor
from supervisor.maintenance import Maintenance, Operators
from supervisor.mps import compose as mps
from supervisor.mps.applying import Applying
from supervisor.runtime_folder import (
    MPS_FOLDER,
    BusyError,
    remove_dead_sockets,
    remove_mps_bus,
    runtime_folder,
)
from supervisor.source import source
from supervisor.start_anew import WITHOUT_GPU, start_anew, take_back
from supervisor.state import Service
from supervisor.systemd import Notifier
from supervisor.title import set_title
from supervisor.version import VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command on the command line and return its exit code."""
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    known, rest = _parsed(given)
    try:
        return _do(known, rest, given)
    except SettingsError as error:
        return _say(error, ExitCode.USAGE)
    except (AskError, BusyError, node.NodeError) as error:
        return _say(error, ExitCode.FAILED)


def _parsed(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return what the command line says, and the options of `run` that `simulate` hands on."""
    parser = command_line.parser(VERSION)
    with printing():  # the help and the version
        known, rest = parser.parse_known_args(arguments)
    if rest and known.command != "simulate":
        parser.error(f"unrecognized arguments: {command_line.unknown(rest)}")
    return known, rest


def _do(known: argparse.Namespace, rest: Sequence[str], given: Sequence[str]) -> int:
    match known.command:
        case "run" | "mps":
            return _serve(known, given)
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
            # Imported only here, as a service needs nothing of it.
            return _tell(importlib.import_module("simulator.drill").run(known))
        case _:
            return _operate(known)


def _say(error: Exception, code: ExitCode) -> ExitCode:
    complain(str(error))
    return code


def _tell(done: str) -> ExitCode:
    if done:
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


def _operate(known: argparse.Namespace) -> int:
    folder, request = Path(known.runtime_dir), _request(known)
    code = _tell(ask(folder, request))
    if isinstance(request, Quiesce | Resume) and is_served(str(folder / MPS_FOLDER / SOCKET)):
        _tell(ask(folder / MPS_FOLDER, request))
    if isinstance(request, Quiesce):
        importlib.import_module("supervisor.commands.held_by_mps").main(folder)
    return code


def _serve(known: argparse.Namespace, given: Sequence[str]) -> int:
    flags = command_line.values(known)
    if known.command == "run":
        if os.environ.pop(WITHOUT_GPU, ""):
            return _wait_for_gpu(settings.load(flags, os.environ))
        return _run(PLUGIN, flags, given)
    if known.action is None and not known.now:
        return _run(MPS, flags, given)
    if not (known.action and known.now):
        raise SettingsError(
            "cannot use one of `apply` and --now: write `gpu-sharing-plugin mps apply --now`; "
            "without it, new limits apply as soon as a daemon has no clients"
        )
    plugin = flags.get("service.runtimeDir", command_line.RUNTIME_DIR)
    return _tell(ask(Path(plugin, MPS_FOLDER), Apply()))


def _request(known: argparse.Namespace) -> Request:
    match known.command:
        case "quiesce":
            return Quiesce()
        case "resume":
            return Resume()
        case _:
            return MarkHealthy(known.device)


class Tree(msgspec.Struct, frozen=True):
    """One of the two service trees."""

    name: str
    """In the title and in the log."""
    modules: Sequence[str]
    """What its children import."""
    compose: Callable[[settings.Settings], Service]
    capabilities: Sequence[int]
    """What its children may keep."""
    operators: Callable[[], Operators]
    folder: Callable[[settings.Settings], Path]
    """Returns its runtime folder."""
    tidy: Callable[[settings.Settings], None]
    """Removes what it may leave outside of its runtime folder."""
    variables: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Environment variables that count unless the environment sets them."""


PLUGIN = Tree(
    "supervisor",
    preload.PLUGIN,
    compose,
    privileges.HANDED_ON,
    Maintenance,
    lambda wanted: Path(wanted.service.runtime_dir),
    lambda wanted: remove_dead_sockets(Path(wanted.service.device_plugin_path)),
)

MPS = Tree(
    "mps",
    preload.MPS,
    mps.compose_tree,
    privileges.EVERYTHING,
    Applying,
    mps.folder,
    lambda wanted: remove_mps_bus(Path(wanted.service.runtime_dir)),
    {"METRICS_ADDRESS": ":9451"},  # not the plugin's: both run on one node
)


def _run(tree: Tree, flags: Mapping[str, str], arguments: Sequence[str]) -> int:
    set_title(tree.name)
    # All files created from here on, the workers' sockets too, are for this user and root only.
    os.umask(0o077)
    environment = dict(os.environ)
    for name, value in tree.variables.items():
        environment[name] = environment.get(name, "").strip() or value
    wanted = settings.load(flags, environment)
    tree.compose(wanted)  # before a folder or a process is created for settings that cannot work
    logs.set_up(tree.name, wanted.service.log_format, wanted.service.log_level)
    if refused := privileges.keep(tree.capabilities, dormant=True):
        logger.warning("cannot give up capabilities", reason=refused)
    for notice in wanted.notices:
        logger.warning("ignored a setting", setting=notice)
    with runtime_folder(tree.folder(wanted)):
        preload.preload(tree.modules, api_client=wanted.service.uses_api_server)
        # Reads the settings again, now without capabilities, as at each reload.
        read = source(flags, environment, tree.compose)
        code = Supervisor(read, tree.operators()).run()
        tree.tidy(wanted)
    if code == ExitCode.NO_GPU:
        start_anew(arguments, environment)
    # Not return: the interpreter would wait for ever for a child that the kernel cannot kill.
    os._exit(code)


def _wait_for_gpu(wanted: settings.Settings) -> int:
    """Serve a node without a GPU; return the exit code."""
    set_title("without GPU")
    os.umask(0o077)
    logs.set_up("without GPU", wanted.service.log_format, wanted.service.log_level)
    if refused := privileges.keep(()):
        logger.warning("cannot give up capabilities", reason=refused)
    service, flags = compose(wanted), wanted.configuration.flags
    take_back(service.children)
    (mine,) = [spec.settings for spec in service.children if spec.name == "exporter"]
    root, interval = flags.plugin.container_driver_root, wanted.configuration.health.rescan_interval
    with runtime_folder(Path(wanted.service.runtime_dir)):
        # Imported only here: the process that forks has nothing of the exporter.
        waiting = importlib.import_module("supervisor.exporter.without_gpu")
        code: int = waiting.main(mine, service.configuration_hash, root, interval, Notifier())
    return code


def _simulate(known: argparse.Namespace, rest: Sequence[str]) -> int:
    with contextlib.ExitStack() as folders:
        folder = folders.enter_context(tempfile.TemporaryDirectory(prefix="gpu-sharing-"))
        path = known.node
        if path is None:
            path = f"{folder}/node.json"
            Path(path).write_bytes(msgspec.json.encode(node_file.default_node()))
        options = [f"--simulated-node={path}", "--metrics-address=127.0.0.1:0"]
        options += ["--log-level=warning", *rest]
        root = None
        if _shares_by_mps(options):
            made = tempfile.TemporaryDirectory(prefix="gpu-mps-")
            root = Path(folders.enter_context(made))
            root.chmod(0o755)
        program = [sys.executable, "-P", "-m", "supervisor"]
        # Imported only here: it is a gRPC server, which the process that forks must never load.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        simulate = importlib.import_module("simulator.simulate")
        given = simulate.Simulation(program, options, Path(folder), root, known.duration)
        code: int = simulate.main(given)
        return code


def _shares_by_mps(options: Sequence[str]) -> bool:
    """Return whether `run` with these options would share something by MPS."""
    known = _parsed(["run", *options])[0]
    wanted = settings.load(command_line.values(known), os.environ)
    return wanted.configuration.sharing.mps is not None
