"""`drill`: put a fault into the simulated node of a running service."""

import argparse
from pathlib import Path

from simulator.live_node import LiveNode

KINDS = {
    "xid": "an Xid happens on the GPU, or on one of its MIG instances",
    "lost": "the GPU falls off the bus",
    "hang": "no call of the driver's on the GPU returns",
    "ecc": "a memory error of the GPU cannot be corrected",
    "row-remap": "a memory row of the GPU cannot be replaced",
    "recovery-action": "the driver asks for a recovery of the GPU",
    "recover": "the GPU that is lost or hangs answers again, which proves nothing",
    "reset": "the GPU is reset: it answers, and the driver asks for no recovery any more",
    "remove": "the GPU is taken out of the node",
    "add": "the GPU is put back",
    "mig": "the GPU, which is in MIG mode, has these instances from now on",
    "permission-loss": "the service may not open the GPUs' device nodes any more",
    "permission": "the service may open them again",
}

OF_THE_NODE = frozenset({"permission-loss", "permission"})
"""Drills that concern no single GPU."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `drill` takes to its *parser*."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, text in KINDS.items():
        drill = kinds.add_parser(kind, help=text, description=text, allow_abbrev=False)
        if kind == "xid":
            drill.add_argument("code", metavar="CODE", type=int, help="the Xid, such as 79")
            drill.add_argument(
                "--mig", type=int, metavar="N", help="the GPU's MIG instance, from 0"
            )
        if kind == "recovery-action":
            drill.add_argument("code", metavar="ACTION", type=int, help="NVML's number, 0 for none")
        if kind == "mig":
            drill.add_argument("profiles", metavar="PROFILE", nargs="*", help="such as 1g.10gb")
        if kind not in OF_THE_NODE:
            drill.add_argument(
                "--gpu", type=int, required=True, metavar="N", help="place in the node file, from 0"
            )
        drill.add_argument(
            "--runtime-dir", default="/run/gpu-sharing-plugin", help="of the service"
        )


def run(arguments: argparse.Namespace) -> None:
    """Change the node; once this returns the fault is there. NodeError if it makes no sense."""
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
