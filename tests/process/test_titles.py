"""Each process has its title in `ps`, and its initial environment stays where the kernel put it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import title
from tests.fakes.compiler import COMPILER
from tests.fakes.service import COMMAND, kubelet, service

SCRIPT = Path(sys.executable).with_name("gpu-sharing-plugin")
LIBRARY = r"""
#include <stdio.h>

static char **initial;

/* Go's runtime does this in a shared library: the environment follows argv on the stack. */
__attribute__((constructor)) static void on_load(int argc, char **argv)
{
    initial = argv + argc + 1;
}

void show(void)
{
    for (char **entry = initial; *entry; entry++)
        puts(*entry);
    fflush(stdout);
}
"""

PROGRAM = """
import ctypes, os, sys
from supervisor.title import set_title

set_title("supervisor")
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
set_title("monitor")
ctypes.CDLL(sys.argv[1]).show()
"""

REFUSED = """
from supervisor import title

title.PR_SET_MM = 0  # no operation of prctl: the kernel refuses it, as old kernels refuse PR_SET_MM
title.set_title("worker nvidia.com/" + 40 * "a-long-name-")
print(open("/proc/self/cmdline").read().rstrip(chr(0)), open("/proc/self/environ").read(), sep="|")
"""


def initial_environment(pid: int) -> dict[str, str]:
    """Return the environment that a process got from exec, as it is in its memory now."""
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {name: value for name, _, value in (e.partition("=") for e in entries) if name}


@pytest.mark.parametrize("command", [COMMAND, (str(SCRIPT),)], ids=["module", "console script"])
def test_titles_leave_the_environment_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """All processes have full titles, and an environment that is the one the service got."""
    monkeypatch.setattr("tests.fakes.service.COMMAND", command)
    given = {**os.environ, "LAST_VARIABLE": "of the environment"}

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            service(
                folder, node={"gpus": [{}]}, environment=given, exec_because="/proc shows it"
            ) as running,
        ):
            await node.until(lambda k: k.healthy("nvidia.com/gpu") == 1)
            await running.ready()
            children = running.pids()
            assert children.keys() == {"monitor", "exporter", "worker nvidia.com/gpu"}
            supervisor = running.process.pid
            assert title(supervisor) == "gpu-sharing-plugin: supervisor"
            for pid in (supervisor, *children.values()):
                assert initial_environment(pid) == given

    asyncio.run(story())


def test_a_library_sees_the_environment(folder: Path) -> None:
    """A native library that is loaded after the title was set finds the initial environment."""
    source, library = folder / "initial.c", folder / "initial.so"
    source.write_text(LIBRARY)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, source], check=True)
    given = {"FIRST": "1", "LAST": 100 * "of the environment "}
    command = [sys.executable, "-c", PROGRAM, str(library)]
    shown = subprocess.run(command, env=given, check=True, capture_output=True, text=True).stdout
    assert dict(line.split("=", 1) for line in shown.splitlines()) == given


def test_a_title_that_the_kernel_refuses_is_cut() -> None:
    """Where the kernel moves no command line, the title is cut to it; the rest stays as it is."""
    given = {"FIRST": "1", "LAST": "2"}
    command = [sys.executable, "-"]
    done = subprocess.run(
        command, input=REFUSED, env=given, check=True, capture_output=True, text=True
    )
    seen, environment = done.stdout.removesuffix("\n").split("|")
    whole = "gpu-sharing-plugin: worker nvidia.com/" + 40 * "a-long-name-"
    assert seen == whole[: len("\0".join(command))]
    assert environment == "FIRST=1\0LAST=2\0"
