"""`drill`: put a fault into the simulated node of a running service."""

import argparse
from pathlib import Path

from simulator.node import LiveNode

KINDS = {
    "xid": "an Xid happens on the GPU, or on one of its MIG instances",
    "lost": "the GPU falls off the bus",
    "recover": "the lost GPU answers again",
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
        drill.add_argument(
            "--gpu", type=int, required=True, metavar="N", help="place in the node file, from 0"
        )
        drill.add_argument(
            "--runtime-dir", default="/run/gpu-sharing-plugin", help="of the service"
        )


def run(arguments: argparse.Namespace) -> None:
    """Change the node; once this returns the fault is there. NodeError if it makes no sense."""
    node = LiveNode(Path(arguments.runtime_dir))
    match arguments.kind:
        case "xid":
            node.xid(arguments.gpu, arguments.code, arguments.mig)
        case "lost":
            node.lose(arguments.gpu)
        case "recover":
            node.recover(arguments.gpu)
        case "remove":
            node.remove(arguments.gpu)
        case "add":
            node.add(arguments.gpu)
        case kind:
            raise AssertionError(f"cannot happen: the parser lets {kind} through")
