"""Run one target under atheris, which looks for inputs that reach new code."""

import faulthandler
import signal
import sys

import atheris

# Only what reads the inputs: with all libraries, the start took 20 s and each run was slower.
with atheris.instrument_imports(
    include=["health", "prometheus_client", "proto", "simulator", "supervisor", "workers", "yaml"]
):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz the target that the first argument names; the other arguments are libFuzzer's."""
    # Not a signal of libFuzzer's: it ends the process, after it has said where every thread is.
    faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


main()
