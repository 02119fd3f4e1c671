"""Start the program that changes compute modes, one run for each GPU, and never wait too long."""

import os
import sys
from pathlib import Path

from health import compute_mode
from health.compute_mode import Verb
from proto import host
from proto.running import Runner

WITHIN = {Verb.TAKE: 3.0, Verb.PUT_BACK: 6.0}
"""Seconds for one GPU; opening the driver takes 20 ms, on a machine at rest.

A start is tried again, but a mode that was not put back stays until the next start of the service.
"""

PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from proto.host import die_with; die_with(int(sys.argv[2])); "
    "from health.compute_mode import main; sys.exit(main(sys.argv[3:]))"
)
"""It ends with its caller: another keeper may change the mode then."""

MIG = "MIG-"
"""How the UUID of a MIG instance begins: it has no compute mode, and its GPU is others' too."""


class ComputeModeError(Exception):
    """The driver refuses a compute mode, or does not answer; the message says it."""


async def change(
    runner: Runner, verb: Verb, folder: str, uuid: str, binding: tuple[str, str]
) -> bool:
    """Change the compute mode of a GPU, as *verb* says; ComputeModeError if that fails.

    Return False if the GPU has no compute modes.
    """
    own = str(Path(host.__file__).parents[1])
    said = [sys.executable, "-I", "-c", PROGRAM, own, str(os.getpid())]
    done = await runner.run([*said, verb, folder, uuid, *binding], None, WITHIN[verb])
    if done.code is None:
        why = (
            done.output.strip()
            or f"no answer within {WITHIN[verb]:g} s: the driver or the machine is slow"
        )
        raise ComputeModeError(f"cannot change the compute mode: {why}")
    if done.code:
        last = done.output.strip().splitlines()
        raise ComputeModeError(f"cannot change the compute mode: {last[-1] if last else done.code}")
    return compute_mode.UNSUPPORTED not in done.output
