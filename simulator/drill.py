"""`drill`: inject a fault into the simulated node of a running service."""

import argparse
import difflib
import functools
from pathlib import Path
from typing import Any

from proto.mps_bus import MPS_BUS
from simulator.live_node import LiveNode
from simulator.node import GREY, NodeError
from simulator.nvml import FUNCTIONS
from simulator.usage import CONTAINER, Use
from simulator.usage import KINDS as KINDS_OF_USE

KINDS = {
    "xid": "report an Xid on a GPU, or on one of its MIG instances",
    "lost": "make a GPU fall off the bus",
    "hang": "make every driver call on a GPU hang",
    "slow": "make every driver call on a GPU take longer",
    "fail": "make one function of the driver fail on a GPU",
    "nvlink-down": "take NVLinks of a GPU down",
    "ecc": "report an uncorrectable memory error on a GPU",
    "row-remap": "make the remapping of a memory row fail on a GPU",
    "grey": "give a GPU a grey failure, such as a narrow PCIe link",
    "recovery-action": "make the driver ask for a recovery action on a GPU",
    "mps-fault": "put the MPS server of a GPU in FAULT, as a client that faults does",
    "fabric": "let a GPU not have joined its NVLink fabric, as without Fabric Manager",
    "licence": "take the licence of a virtual GPU away",
    "recover": "end lost, hang, slow, fail, mps-fault, grey, fabric and licence, without a reset",
    "usage": "let a process use a GPU, or one of its MIG instances",
    "reset": "reset a GPU: it answers again, needs no recovery action, and its NVLinks are up",
    "remove": "remove a GPU from the node",
    "passthrough": "give a GPU to vfio-pci, for virtual machines",
    "add": "put a GPU back that was removed or given to vfio-pci",
    "mig": "replace all MIG instances of a GPU that is in MIG mode",
    "permission-loss": "take away the service's access to the GPU device nodes",
    "permission": "give back the service's access to the GPU device nodes",
    "cc-not-ready": "let the GPUs of a confidential virtual machine accept no work",
    "cc-ready": "let them accept work again",
}

OF_THE_NODE = frozenset({"permission-loss", "permission", "cc-not-ready", "cc-ready"})
"""Drills that affect the whole node and take no --gpu."""

CHECK = "the service finds it at its next check (health.pollInterval, 5 s by default)"
SEARCH = "the service finds it at its next search (health.rescanInterval, 30 s by default)"
LATER = {"mps-fault": CHECK, **dict.fromkeys(("remove", "passthrough", "add", "mig"), SEARCH)}
"""What to expect of drills that the service does not notice at once."""

EXAMPLE = "nvmlDeviceGetMemoryInfo"

OWN_ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "xid": {
        "code": {"metavar": "CODE", "type": int, "help": "Xid code, such as 79"},
        "--mig": {"metavar": "N", "type": int, "help": "index of the MIG instance, from 0"},
    },
    "slow": {
        "--milliseconds": {
            "metavar": "M",
            "type": int,
            "required": True,
            "help": "how much longer each call takes; 0 ends it",
        },
    },
    "fail": {
        "--call": {
            "metavar": "NAME",
            "required": True,
            "help": f"function of NVML, such as {EXAMPLE}",
        },
        "--code": {
            "metavar": "C",
            "type": int,
            "required": True,
            "help": "NVML's error code, such as 999 for an unknown error; 0 ends the failure",
        },
    },
    "nvlink-down": {
        "--links": {
            "metavar": "K",
            "type": int,
            "required": True,
            "help": "how many NVLinks of the GPU are down; 0 ends it",
        },
    },
    "usage": {
        "--pod": {"metavar": "NAMESPACE/NAME", "help": "pod of the process"},
        "--container": {
            "metavar": "NAME",
            "help": f"container of the process; default: {CONTAINER}",
        },
        "--host": {"action": "store_true", "help": "the process is in no container"},
        "--pid": {
            "metavar": "PID",
            "type": int,
            "help": "a real process, instead of one that only the simulation has",
        },
        "--memory": {
            "metavar": "MIB",
            "type": int,
            "required": True,
            "help": "memory of the GPU that the process uses; 0 ends it",
        },
        "--utilization": {
            "metavar": "P",
            "type": int,
            "default": 0,
            "help": "percent of the GPU that the process uses; default: %(default)s",
        },
        "--type": {
            "choices": KINDS_OF_USE,
            "default": "compute",
            "help": "what the process does: %(choices)s; default: %(default)s",
        },
        "--mig": {"metavar": "N", "type": int, "help": "index of the MIG instance, from 0"},
    },
    "grey": {
        "failure": {
            "metavar": "FAILURE",
            "choices": GREY,
            "help": "%(choices)s; pcie and clocks show only under load, see `drill usage`",
        },
    },
    "recovery-action": {
        "code": {
            "metavar": "ACTION",
            "type": int,
            "help": "number of NVML's recovery action: 0 none, 1 reset the GPU, 2 reboot the node",
        },
    },
    "mig": {
        "profiles": {
            "metavar": "PROFILE",
            "nargs": "*",
            "help": "MIG profile, such as 1g.10gb; without any: remove all",
        },
    },
}
"""Arguments that only one kind of drill takes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `drill` to *parser*."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, text in KINDS.items():
        drill = kinds.add_parser(kind, help=text, description=text, allow_abbrev=False)
        for name, options in OWN_ARGUMENTS.get(kind, {}).items():
            drill.add_argument(name, **options)
        if kind not in OF_THE_NODE:
            drill.add_argument(
                "--gpu", type=int, required=True, metavar="N", help="index of the GPU, from 0"
            )
        drill.add_argument(
            "--runtime-dir",
            metavar="DIR",
            default="/run/gpu-sharing-plugin",
            help="runtime folder, as the line `try` of `simulate` shows it; default: %(default)s",
        )


def run(arguments: argparse.Namespace) -> str:
    """Inject the fault; it is in place on return. Return what was done, in one line.

    Raises NodeError if the node cannot have the fault.
    """
    folder = Path(arguments.runtime_dir)
    if arguments.kind == "mps-fault" and not (folder / MPS_BUS).exists():
        raise NodeError(
            "cannot put an MPS server in FAULT: no `gpu-sharing-plugin mps` runs on this node; "
            "start it, with a configuration that has sharing.mps"
        )
    node = LiveNode(folder)
    plain = {
        "lost": node.lose,
        "hang": node.hang,
        "ecc": node.fail_memory,
        "row-remap": node.fail_row,
        "mps-fault": node.fail_mps,
        "fabric": node.take_apart,
        "licence": node.end_licence,
        "recover": node.recover,
        "reset": node.reset,
        "remove": node.remove,
        "passthrough": node.give_away,
        "add": node.add,
    }
    whole = {
        "permission-loss": functools.partial(node.deny, denied=True),
        "permission": functools.partial(node.deny, denied=False),
        "cc-not-ready": functools.partial(node.attest, attested=False),
        "cc-ready": functools.partial(node.attest, attested=True),
    }
    if arguments.kind in whole:
        whole[arguments.kind]()
    elif arguments.kind in plain:
        plain[arguments.kind](arguments.gpu)
    else:
        _inject(node, arguments)
    return _done(arguments)


def _inject(node: LiveNode, arguments: argparse.Namespace) -> None:
    """Inject a fault that has arguments."""
    with_a_value: dict[str, tuple[Any, str]] = {
        "slow": (node.slow_down, "milliseconds"),
        "nvlink-down": (node.take_links_down, "links"),
        "grey": (node.fail_grey, "failure"),
        "recovery-action": (node.ask_for, "code"),
    }
    if arguments.kind in with_a_value:
        act, name = with_a_value[arguments.kind]
        act(arguments.gpu, getattr(arguments, name))
        return
    match arguments.kind:
        case "xid":
            node.xid(arguments.gpu, arguments.code, arguments.mig)
        case "fail":
            node.fail(arguments.gpu, known(arguments.call), arguments.code)
        case "usage":
            node.use(arguments.gpu, _use(arguments))
        case _:  # mig
            node.partition(arguments.gpu, tuple(arguments.profiles))


def _use(arguments: argparse.Namespace) -> Use:
    given = [bool(arguments.pod), arguments.host, arguments.pid is not None]
    if sum(given) != 1:
        raise NodeError("cannot tell whose the process is: give one of --pod, --host and --pid")
    if arguments.container and not arguments.pod:
        raise NodeError("cannot use --container without --pod: the process is in no simulated pod")
    if arguments.pid is not None and arguments.pid < 1:
        raise NodeError(f"cannot use the PID {arguments.pid}: it must be at least 1")
    return Use(
        arguments.memory,
        arguments.utilization,
        pod=arguments.pod or "",
        container=arguments.container or CONTAINER,
        kind=arguments.type,
        mig=arguments.mig,
        pid=arguments.pid or 0,
    )


def _done(arguments: argparse.Namespace) -> str:
    words = [arguments.kind]
    for name, options in OWN_ARGUMENTS.get(arguments.kind, {}).items():
        value = getattr(arguments, name.removeprefix("--"))
        shown = " ".join(value) if isinstance(value, (list, tuple)) else str(value)
        if value is True:
            words.append(name)
        elif value is not None and value is not False and value != options.get("default"):
            words += [name, shown] if name.startswith("--") else [shown]
    where = "the whole node" if arguments.kind in OF_THE_NODE else f"GPU {arguments.gpu}"
    later = f"; {LATER[arguments.kind]}" if arguments.kind in LATER else ""
    return f"done: drill {' '.join(words).strip()} on {where}{later}"


def known(call: str) -> str:
    """Return *call* if the simulated NVML has this function of a GPU; else raise NodeError."""
    if call in FUNCTIONS:
        return call
    similar = difflib.get_close_matches(call, sorted(FUNCTIONS), n=1, cutoff=0.8)
    raise NodeError(
        f'cannot make "{call}" fail: the simulated NVML has no such function of a GPU; '
        f"use one that it has, such as {(*similar, EXAMPLE)[0]}"
    )
