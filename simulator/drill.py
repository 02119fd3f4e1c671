"""`drill`: inject a fault into the simulated node of a running service."""

import argparse
from pathlib import Path

from simulator.live_node import LiveNode

KINDS = {
    "xid": "report an Xid on a GPU, or on one of its MIG instances",
    "lost": "make a GPU fall off the bus",
    "hang": "make every driver call on a GPU hang",
    "ecc": "report an uncorrectable memory error on a GPU",
    "row-remap": "make the remapping of a memory row fail on a GPU",
    "recovery-action": "make the driver ask for a recovery action on a GPU",
    "recover": "make a lost or hung GPU answer again, without a reset",
    "reset": "reset a GPU: it answers again and needs no recovery action",
    "remove": "remove a GPU from the node",
    "add": "put a removed GPU back",
    "mig": "replace all MIG instances of a GPU that is in MIG mode",
    "permission-loss": "take away the service's access to the GPU device nodes",
    "permission": "give back the service's access to the GPU device nodes",
}

OF_THE_NODE = frozenset({"permission-loss", "permission"})
"""Drills that affect the whole node and take no --gpu."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `drill` to *parser*."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, text in KINDS.items():
        drill = kinds.add_parser(kind, help=text, description=text, allow_abbrev=False)
        if kind == "xid":
            drill.add_argument("code", metavar="CODE", type=int, help="Xid code, such as 79")
            drill.add_argument(
                "--mig", type=int, metavar="N", help="index of the MIG instance, from 0"
            )
        if kind == "recovery-action":
            drill.add_argument(
                "code",
                metavar="ACTION",
                type=int,
                help="number of NVML's recovery action: 0 none, 1 reset the GPU, 2 reboot the node",
            )
        if kind == "mig":
            drill.add_argument(
                "profiles",
                metavar="PROFILE",
                nargs="*",
                help="MIG profile, such as 1g.10gb; without any: remove all",
            )
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


def run(arguments: argparse.Namespace) -> None:
    """Inject the fault; it is in place on return. Raise NodeError if the node cannot have it."""
    node = LiveNode(Path(arguments.runtime_dir))
    plain = {
        "lost": node.lose,
        "hang": node.hang,
        "ecc": node.fail_memory,
        "row-remap": node.fail_row,
        "recover": node.recover,
        "reset": node.reset,
        "remove": node.remove,
        "add": node.add,
    }
    match arguments.kind:
        case "xid":
            node.xid(arguments.gpu, arguments.code, arguments.mig)
        case "recovery-action":
            node.ask_for(arguments.gpu, arguments.code)
        case "mig":
            node.partition(arguments.gpu, tuple(arguments.profiles))
        case "permission-loss" | "permission" as kind:
            node.deny(denied=kind == "permission-loss")
        case kind:
            plain[kind](arguments.gpu)
