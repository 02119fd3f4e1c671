"""What programs must not do to a keeper: print without end, or look like a daemon of its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proto.keeper import KeeperSettings
from proto.mps import MpsShare
from proto.running import MOST_BYTES, Runner
from supervisor.mps import daemon, program
from supervisor.mps.kept import Kept
from supervisor.mps.shell import Shell
from tests.fakes.mps_host import MpsHost, cuda
from tests.fakes.service import PATIENCE, short_folder

ENDLESS = "import os\nwhile True: os.write(1, b'x' * 4096)"

UUID = "GPU-00000000-0000-0000-0000-000000000000"

NOBODY = 65534


@pytest.fixture
def mps() -> Iterator[MpsHost]:
    """Make a host with the stand-in, and end its daemons after the test."""
    with short_folder() as folder:
        host = MpsHost(folder)
        yield host
        host.end_all()


def test_output_without_end_fills_no_memory() -> None:
    """The program gets an error when it has printed too much; what it printed is known."""
    done = asyncio.run(Runner().run([sys.executable, "-c", ENDLESS], None, PATIENCE))
    assert done.code == 1
    assert done.output.startswith("xxxx")
    assert len(done.output) <= MOST_BYTES


def test_a_long_answer_makes_a_short_detail(tmp_path: Path) -> None:
    """What a program answers wrongly goes into messages and events, so it is shortened."""
    program = tmp_path / "answers"
    program.write_text(f"#!{sys.executable}\nprint('\\033[2J' + 'x' * 100_000)\n")
    program.chmod(0o755)
    shell = Shell(Runner(), UUID, PATIENCE)
    shell.use(str(program), {})
    seen = asyncio.run(shell.look(Kept(MpsShare(), pid=os.getpid()), frozenset(), 0.0))
    assert seen.trouble.startswith('get_server_list was answered with "')
    assert seen.trouble.isprintable()
    assert len(seen.trouble) < 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_another_users_process_is_no_daemon(tmp_path: Path) -> None:
    """Every user may give a process a daemon's name and environment."""
    command = [daemon.NAME, "-f", os.devnull]
    with subprocess.Popen(
        command, executable="/usr/bin/tail", env=cuda(tmp_path), user=NOBODY, cwd="/"
    ) as decoy:
        try:
            assert daemon.running(str(tmp_path)) is None
        finally:
            decoy.kill()


def test_a_daemon_is_known_by_any_path_of_its_folder(mps: MpsHost) -> None:
    """A root that is written in another way, or reached through a link, has the same daemons."""
    pipe, link = mps.folder / "pipe", mps.folder / "link"
    pipe.mkdir()
    link.symlink_to(mps.folder)
    with mps.daemon(pipe, UUID) as process:
        for path in (str(pipe), f"{mps.folder}//pipe", str(link / "pipe")):
            found = daemon.running(path)
            assert found is not None, path
            os.close(found[0].ended_at)
            assert found[0].pid == process.pid


def test_the_program_that_was_checked_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path from the current folder stays that path: programs are run in the root folder."""
    (tmp_path / "control").write_text("#!/bin/sh\n")
    (tmp_path / "control").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    settings = KeeperSettings(
        uuid=UUID,
        share=MpsShare(),
        root="/mps",
        state_folder="/state",
        bus="/bus",
        program="./control",
    )
    assert program.find(settings) == str(tmp_path / "control")
