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
sys.exit(main({folder!r}, {node!r}, {gpus!r}))
"""


def write_program(program: Path, folder: str = "", node: str = "", gpus: str = "") -> None:
    """Create the program; `Steering` says what the other arguments are."""
    text = TEXT.format(python=sys.executable, root=str(ROOT), folder=folder, node=node, gpus=gpus)
    program.write_text(text)
    program.chmod(0o755)
