"""What commands print commands no terminal."""

import ast
import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.texts import printable
from supervisor.main import main

ROOT = Path(__file__).parents[2]
PACKAGES = ("health", "proto", "simulator", "supervisor", "workers")
HOSTILE = "\x1b[31m\x9b31m\u202e\udcff"

PRINTING = {
    "supervisor/commands/printing.py",  # escapes everything
    "supervisor/commands/show_status.py",  # prints only what `_text` has escaped
    "supervisor/commands/watch_status.py",  # prints what show_status shows
    "simulator/simulate.py",  # prints what the service under test told it
}
"""The only files that print."""


@given(st.text())
def test_printable_text_is_printable(text: str) -> None:
    """Text without special characters stays, and any other text becomes printable."""
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_commands_print_in_one_way() -> None:
    """No other file prints, so nothing is printed without being escaped."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "print" not in (text := path.read_text()):
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "print":
                    found.add(str(path.relative_to(ROOT)))
    assert found == PRINTING


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", HOSTILE],
        ["run", f"--log-level={HOSTILE}"],
        ["check-config", f"--config-file=/{HOSTILE}"],
        ["xids", f"--resource-config={HOSTILE}"],
        ["status", f"--runtime-dir=/{HOSTILE}"],
        ["quiesce", f"--runtime-dir=/{HOSTILE}"],
        ["mark-healthy", HOSTILE],
        ["drill", HOSTILE],
        ["drill", "lost", "--gpu=0", f"--runtime-dir=/{HOSTILE}"],
        ["simulate", f"--node={HOSTILE}", f"--{HOSTILE}"],
    ],
)
def test_no_error_commands_a_terminal(
    capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """An error is one printable line, whatever the argument is that it names."""
    with contextlib.suppress(SystemExit):
        assert main(arguments) in {1, 2}
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.endswith("\n")
    assert told.err.removesuffix("\n").isprintable()
    assert told.err.startswith("cannot ")


def test_checked_settings_command_no_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`check-config` prints valid JSON of a file with dangerous texts, in printable lines."""
    name = HOSTILE.removesuffix("\udcff")
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"flags": {"gfd": {}, "nvidiaDriverRoot": f"/{name}"}}))
    assert main(["check-config", f"--config-file={path}"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["config"]["flags"]["nvidiaDriverRoot"] == f"/{name}"
    assert all(line.isprintable() for line in (told.out + told.err).split("\n"))
