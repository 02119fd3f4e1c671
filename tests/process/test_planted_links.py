"""Another user puts links into our folders, at any moment of a start: root follows none."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.service import PATIENCE, kubelet, service

NOBODY = 65534
GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

BECOME_NOBODY = """
import os, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""

STARTS = """
import contextlib, os, random, shutil, signal, sys, time
from pathlib import Path
from supervisor.runtime_folder import BusyError, runtime_folder

folder, target = Path(sys.argv[1]), Path(sys.argv[2])

def become_nobody():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

def plant():
    with contextlib.suppress(OSError):
        os.symlink(target, folder / "lock")
        return True
    return False

def start():
    folder.mkdir()
    folder.chmod(0o777)
    with contextlib.suppress(BusyError), runtime_folder(folder):
        pass
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    if target.read_text() != "precious":
        sys.exit("root wrote through the link")

os.umask(0o077)
"""
"""What both scripts begin with; they fork, which is unsafe with pytest's threads."""

RACE = """
attacker = os.fork()
if attacker == 0:
    become_nobody()
    dice, seen, pause = random.Random(1), 0, 5e-5
    while True:
        with contextlib.suppress(OSError):
            found = os.stat(folder)
            if found.st_ctime_ns == seen or found.st_mode & 0o777 != 0o777:
                continue
            seen = found.st_ctime_ns
            then = time.perf_counter() + pause * dice.uniform(0.8, 1.2)
            while time.perf_counter() < then:
                pass
            # The best moment is the last one before the folder is closed.
            pause *= 1.05 if plant() else 0.95
try:
    for _ in range(600):
        start()
finally:
    os.kill(attacker, signal.SIGKILL)
    os.waitpid(attacker, 0)
"""
"""600 starts, while another user plants a link at about the best moment of each."""

EACH_MOMENT = """
orders, ours = os.pipe()
theirs, answers = os.pipe()
if os.fork() == 0:
    os.close(ours)
    become_nobody()
    while os.read(orders, 1):
        plant()
        os.write(answers, b"!")
    os._exit(0)

steps, moment = 0, None

def on_step(event, arguments):
    global steps
    if event in {"open", "os.chmod", "os.listdir", "os.mkdir", "os.scandir"} and moment is not None:
        steps += 1
        if steps == moment:
            os.write(ours, b"!")
            os.read(theirs, 1)

sys.addaudithook(on_step)
reached = 0
for attempt in range(1, 100):
    steps, moment = 0, attempt
    start()
    if steps < attempt:
        break
    reached = attempt
print(reached)
"""
"""A start for each of its steps: another user plants a link just before that step."""


def outcome(folder: Path, script: str) -> tuple[int, str]:
    """Run a script of starts; return its exit code and what it said."""
    target = folder / "target"
    target.write_text("precious")
    folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", STARTS + script, str(folder / "runtime"), str(target)],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_no_race_for_the_runtime_folder_is_won(folder: Path) -> None:
    """In 600 starts with an empty folder that all can write to, root never writes through a link
    that another user plants meanwhile.
    """
    assert outcome(folder, RACE) == (0, "")


def test_no_step_of_a_start_is_good_for_an_attack(folder: Path) -> None:
    """Root follows no link that another user plants, before whichever step of a start that is."""
    code, said = outcome(folder, EACH_MOMENT)

    assert code == 0, said
    assert int(said) >= 4  # it looks, closes the folder, looks again, and opens the file


def as_nobody(script: str, *arguments: Path) -> None:
    """Run a script as another user."""
    subprocess.run(
        [sys.executable, "-c", BECOME_NOBODY + script, *map(str, arguments)],
        timeout=PATIENCE,
        check=True,
    )


AT_WORK = {
    "exporter": "serving metrics",
    "monitor": "watching GPUs for Xid events",
    f"worker {GPU}": "registered with the kubelet",
}
"""What a new child logs."""

REPLACE = "os.rename(sys.argv[1], sys.argv[1] + '.moved'); os.symlink(sys.argv[2], sys.argv[1])"


@pytest.mark.parametrize("child", AT_WORK)
def test_a_child_uses_no_folder_that_a_group_replaced(folder: Path, child: str) -> None:
    """When a group may write above the runtime folder later, and a member replaces the folder by a
    link, a new child writes nothing through it, and the log says what to do.
    """
    above, target = folder / "above", folder / "target"
    runtime = above / "runtime"

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            service(folder, f"--runtime-dir={runtime}", node=NODE) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            os.chown(above, 0, NOBODY)
            above.chmod(0o775)
            await asyncio.to_thread(as_nobody, REPLACE, runtime, target)
            # A child that misses its socket there ends by itself, and may not be back yet.
            with contextlib.suppress(KeyError, ProcessLookupError):
                running.kill(child)
            entry = await running.logged("process is not ready", child=child)

            assert entry["reason"] == (
                f'cannot use "{runtime}": other users can write to "{above}"; '
                f'run chmod go-w "{above}"'
            )
            assert list(target.iterdir()) == []

            runtime.unlink()
            (above / "runtime.moved").rename(runtime)
            above.chmod(0o755)
            await running.logged(AT_WORK[child], after=len(running.entries))

    folder.chmod(0o755)
    above.mkdir(0o755)
    target.mkdir(0o700)
    asyncio.run(story())
