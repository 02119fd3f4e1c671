"""A systemd of its own, as process 1 of a private copy of this machine."""

import contextlib
import functools
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.daemon import Daemon, children, wait_until

BOOT = Path(__file__).with_name("boot")
CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")


class Machine:
    """The running systemd, and commands beside it."""

    def __init__(self, folder: Path, group: Path) -> None:
        """Boot in *folder*, with systemd in the control group *group*."""
        enter = f'echo $$ >{group}/cgroup.procs; exec unshare "$@"'
        options = (*NAMESPACES, "--fork", "--kill-child", str(BOOT), str(folder))
        self._daemon = Daemon(["/bin/sh", "-c", enter, "sh", *options], folder.with_suffix(".log"))
        self._root = folder / "root"
        try:
            what = "systemd runs"
            self._daemon.wait_ready(lambda: self.run("systemctl", "is-system-running"), 60, what)
        except BaseException:
            self.stop()
            raise

    def run(self, *command: str, network: bool = True) -> "subprocess.CompletedProcess[str] | None":
        """Run *command* on the machine; None if systemd is not there yet."""
        found = [
            pid for pid, name in children(self._daemon.pid).items() if "systemd --unit" in name
        ]
        if not found:
            return None
        enter = [
            "/usr/bin/nsenter",
            f"--target={found[0]}",
            "--mount",
            "--pid",
            "--ipc",
            "--root",
            "--wd=/",
        ]
        # What a user's shell on the machine has, and nothing of the tests' own environment.
        clean = ["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        alone = [] if network else ["/usr/bin/unshare", "--net"]
        return subprocess.run(
            [*enter, *clean, *alone, *command], check=False, capture_output=True, text=True
        )

    def do(self, *command: str, network: bool = True) -> str:
        """Run *command*, and return what it prints; it must succeed."""
        done = self.run(*command, network=network)
        assert done
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def put(self, path: str, data: bytes) -> None:
        """Write a file of the machine."""
        done = self.run("sh", "-c", f"mkdir -p {Path(path).parent}")
        assert done
        self._pipe(data, "sh", "-c", f"cat >{path}")

    def _pipe(self, data: bytes, *command: str) -> None:
        (pid,) = children(self._daemon.pid)
        enter = ["/usr/bin/nsenter", f"--target={pid}", "--mount", "--root", "--wd=/", *command]
        subprocess.run(enter, check=True, input=data)

    def show(self, unit: str, what: str) -> str:
        """Return a property of a unit."""
        return self.do("systemctl", "show", f"--property={what}", "--value", unit).strip()

    def is_in(self, unit: str, state: str) -> None:
        """Wait until a unit is in this state."""
        wait_until(lambda: self.show(unit, "ActiveState") == state, 60, f"{unit} is {state}")

    def stop(self) -> None:
        """End the machine with all that runs in it."""
        self._daemon.kill()  # --kill-child: systemd too, and with process 1 all others
        self._daemon.show_log()


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Run a machine that has its changes in *folder* as long as it runs."""
    hybrid = CGROUPS / "systemd"
    group = (hybrid if hybrid.is_dir() else CGROUPS) / f"gpu-e2e-{uuid.uuid4()}"
    group.mkdir()
    folder.mkdir()
    try:
        running = Machine(folder, group)
        try:
            yield running
        finally:
            running.stop()
    finally:
        inner = sorted(group.rglob("*/"), reverse=True)
        for each in (*filter(Path.is_dir, inner), group):
            wait_until(functools.partial(_gone, each), 20, f"{each} is empty")


def _gone(group: Path) -> bool:
    """Remove a control group; return whether it is gone."""
    with contextlib.suppress(OSError):
        os.rmdir(group)  # noqa: PTH106 - Path.rmdir does the same
    return not group.exists()
