"""How long the fuzzer waits for a target: a target that lacks processor time does not hang."""

import itertools
import signal
import subprocess
import sys

import pytest

from tests.fuzz import patience
from tests.fuzz.patience import ended

SLEEPS, SPINS = "import time; time.sleep(60)", "while True: pass"
READY = b"ready\n"
SAYS = "import faulthandler; faulthandler.register(3, chain=True); print('ready', flush=True)\n"


@pytest.mark.parametrize("does", [SLEEPS, SPINS], ids=["sleeps", "spins"])
def test_a_process_that_hangs_is_killed(does: str) -> None:
    """It has used no processor time for a while, or too much; before it ends, it says where."""
    command = [sys.executable, "-S", "-c", SAYS + does]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == READY
        assert not ended(process, 0.1, 0.5)
        assert process.returncode in {-signal.SIGQUIT, -signal.SIGKILL}
        assert process.stderr is not None
        assert b'File "<string>", line 2' in process.stderr.read()


def test_a_process_that_lacks_processor_time_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it has used a bit more each time, it goes on, however long it takes."""
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        used = itertools.count(1)

        def little(pid: int) -> float:
            assert (pid, process.stdin is not None) == (process.pid, True)
            now = next(used)
            if now == 3 and process.stdin:
                process.stdin.close()
            return now / 1e6

        monkeypatch.setattr(patience, "cpu", little)
        assert ended(process, 0.0, 0.05)
