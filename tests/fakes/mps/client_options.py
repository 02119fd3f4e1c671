"""The command line of a CUDA program under MPS: of the stand-in and of the real one."""

import argparse


def parsed(description: str | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--memory", type=int, default=64, metavar="MIB", help="memory to hold")
    parser.add_argument("--seconds", type=float, default=60, help="how long to use the GPU")
    parser.add_argument("--fault", action="store_true", help="fault once a line comes on stdin")
    parser.add_argument("--stay", action="store_true", help="after an error, stay until stdin ends")
    return parser.parse_args()
