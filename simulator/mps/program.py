"""Make the stand-in's program nvidia-cuda-mps-control, which starts in a few milliseconds."""

import shlex
import sys
from pathlib import Path

NAME = "nvidia-cuda-mps-control"

ROOT = Path(__file__).parents[2]
"""The folder of our packages, which is all that the program finds beside the standard library."""

LONGEST = 127
"""Bytes of the first line of a script that every Linux kernel reads."""

TEXT = """import sys
sys.path.insert(0, {root!r})
from simulator.mps.control import main
sys.exit(main({folder!r}, {node!r}, {gpus!r}, {owner}))
"""


def first_lines(python: str) -> str:
    """Return the lines that let *python* run a script, as pip writes them."""
    line = f"#!{python} -ES\n"
    if " " not in python and len(line.encode()) <= LONGEST:
        return line
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} -ES \"$0\" \"$@\"\n' '''\n"


def write_program(
    program: Path, folder: str = "", node: str = "", gpus: str = "", owner: int = 0
) -> None:
    """Create the program, whose daemons end with the process *owner*, if one is given.

    `Steering` says what the other arguments are.
    """
    steered = {"folder": folder, "node": node, "gpus": gpus, "owner": owner}
    new = program.with_suffix(".new")  # a shell may just be starting
    new.write_text(first_lines(sys.executable) + TEXT.format(root=str(ROOT), **steered))
    new.chmod(0o755)
    new.replace(program)
