"""Make the stand-in's program nvidia-cuda-mps-control, which starts in a few milliseconds."""

import sys
from pathlib import Path

NAME = "nvidia-cuda-mps-control"

ROOT = Path(__file__).parents[2]
"""The folder of our packages, which is all that the program finds beside the standard library."""

TEXT = """#!{python} -ES
import sys
sys.path.insert(0, {root!r})
from simulator.mps.control import main
sys.exit(main({folder!r}, {node!r}, {gpus!r}, {owner}))
"""


def write_program(
    program: Path, folder: str = "", node: str = "", gpus: str = "", owner: int = 0
) -> None:
    """Create the program, whose daemons end with the process *owner*, if one is given.

    `Steering` says what the other arguments are.
    """
    steered = {"folder": folder, "node": node, "gpus": gpus, "owner": owner}
    new = program.with_suffix(".new")  # a shell may just be starting
    new.write_text(TEXT.format(python=sys.executable, root=str(ROOT), **steered))
    new.chmod(0o755)
    new.replace(program)
