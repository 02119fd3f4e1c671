"""What each process of the service may do, as the kernel shows it in /proc/PID/status."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.privileges import HANDED_ON, MONITOR, Capability
from tests.fakes.apiserver import apiserver
from tests.fakes.service import PATIENCE, kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}]}

HELD = int(Path("/proc/self/status").read_text().partition("CapPrm:\t")[2].split()[0], 16)
"""The capabilities of the tests: in a container, root may lack some."""

pytestmark = pytest.mark.skipif(
    not HELD >> Capability.SETPCAP & 1, reason="needs root with the capability SETPCAP"
)

Rights = dict[str, int]


def rights(pid: int) -> Rights:
    """Return the sets of capabilities of a process, its user and its no_new_privs.

    All threads of the process must have the same, because the kernel keeps them for each thread.
    """
    (found,) = {frozenset(of_task(task).items()) for task in Path(f"/proc/{pid}/task").iterdir()}
    return dict(found)


def of_task(task: Path) -> Rights:
    """Return the rights of one thread."""
    fields = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
    sets = {name: int(fields[f"Cap{name}"], 16) for name in ("Eff", "Prm", "Inh", "Amb", "Bnd")}
    return {**sets, "Uid": int(fields["Uid"].split()[0]), "NoNewPrivs": int(fields["NoNewPrivs"])}


def only(kept: tuple[Capability, ...], *, dormant: bool = False) -> Rights:
    """Return the rights of a process of root that keeps *kept*, and uses them if not *dormant*."""
    held = bits(kept) & HELD
    sets = {"Eff": 0 if dormant else held, "Prm": held, "Inh": 0, "Amb": 0, "Bnd": held}
    return {**sets, "Uid": 0, "NoNewPrivs": 1}


def bits(capabilities: tuple[Capability, ...]) -> int:
    """Return a set of capabilities as the kernel shows it."""
    return sum(1 << capability for capability in capabilities)


def with_all() -> tuple[str, ...]:
    """Return a command that gives a program all that we have, in all sets of capabilities."""
    held = ",".join(f"+cap_{number}" for number in range(64) if HELD >> number & 1)
    return ("setpriv", f"--inh-caps={held}", f"--ambient-caps={held}")


def test_each_process_has_only_the_capabilities_that_it_needs(folder: Path) -> None:
    """A service that was started with all capabilities keeps few: the monitor those that a driver
    needs, the supervisor only to hand them on, and exporter, cluster process and workers none. The
    same holds for a process that was restarted.
    """

    async def story() -> None:
        async with (
            apiserver() as api,
            kubelet(folder) as node,
            service(
                *(folder, "--node-events", "--node-name=node-1"),
                node=NODE,
                environment=api.kubeconfig(folder),
                within=with_all(),
            ) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 1)
            await running.ready()
            for name in ("monitor", "exporter", "cluster", f"worker {GPU}"):
                expected = only(MONITOR if name == "monitor" else ())
                assert rights(running.pids()[name]) == expected, name
                await running.restarted(name, running.kill(name))
            await running.ready()
            for name, pid in running.pids().items():
                assert rights(pid) == only(MONITOR if name == "monitor" else ()), name
            assert rights(running.process.pid) == only(HANDED_ON, dormant=True)

    asyncio.run(story())


PROGRAM = """
import os, sys
from supervisor import privileges

assert not privileges.keep([privileges.Capability.MKNOD])
os.execv("/bin/cat", ["cat", "/proc/self/status"])
"""


def test_no_program_gets_back_what_was_given_up(tmp_path: Path) -> None:
    """A program that such a process starts as root has the kept capabilities, and no others."""
    command = [*with_all(), sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    (tmp_path / "status").write_text(done.stdout)

    assert of_task(tmp_path) == only((Capability.MKNOD,))


def test_without_capabilities_the_service_works(folder: Path) -> None:
    """A service that was started without any capability serves, and complains about nothing."""
    within = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE, within=within) as running:
            await node.until(lambda k: k.healthy(GPU) == 1)
            await running.ready()
            for pid in (running.process.pid, *running.pids().values()):
                assert rights(pid) == only(())
            assert running.count("cannot give up capabilities") == 0

    asyncio.run(story())
