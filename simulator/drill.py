"""`drill`: put a fault into the simulated node of a running service."""

import argparse
from pathlib import Path

from simulator.node import LiveNode

KINDS = {
    "xid": "an Xid happens on the GPU, or on one of its MIG instances",
    "lost": "the GPU falls off the bus",
    "hang": "no call of the driver's on the GPU returns",
    "recover": "the GPU that is lost or hangs answers again, which proves nothing",
    "reset": "the GPU is reset: it answers, and the driver asks for no recovery any more",
    "recovery-action": "the driver asks for a recovery of the GPU",
    "row-remap": "a memory row of the GPU cannot be replaced",
    "remove": "the GPU is taken out of the node; noticed when the monitor starts",
    "add": "the GPU is put back; noticed when the monitor starts",
}


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
        "recover": node.recover,
        "reset": node.reset,
        "row-remap": node.fail_row,
        "remove": node.remove,
        "add": node.add,
    }
    match arguments.kind:
        case "xid":
            node.xid(arguments.gpu, arguments.code, arguments.mig)
        case "recovery-action":
            node.ask_for(arguments.gpu, arguments.code)
        case kind:
            plain[kind](arguments.gpu)
