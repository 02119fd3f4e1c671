"""The command line."""

import argparse
from pathlib import Path

import pytest

from supervisor.commands.command_line import parser, values
from supervisor.config.options import OPTIONS
from supervisor.main import main


@pytest.mark.parametrize(
    ("arguments", "problem", "program"),
    [
        (["run", "--nonsense"], "unrecognized arguments: --nonsense", ""),
        (
            ["run", "--mig-stratgy=none"],
            "unrecognized arguments: --mig-stratgy=none; did you mean --mig-strategy?",
            "",
        ),
        (["run", "nonsense"], "unrecognized arguments: nonsense", ""),
        (["run", "--log"], "unrecognized arguments: --log", ""),
        (["run", "--log-level"], "argument --log-level: expected one argument", " run"),
        (["drill", "lost"], "the following arguments are required: --gpu", " drill lost"),
        (["drill", "lost", "--gpu=x"], "argument --gpu: invalid int value: 'x'", " drill lost"),
        ([], "the following arguments are required: COMMAND", ""),
    ],
    ids=[
        "flag",
        "a letter off",
        "word",
        "abbreviation",
        "no value",
        "no GPU",
        "no number",
        "no command",
    ],
)
def test_a_bad_command_line_is_a_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str, program: str
) -> None:
    """A bad command line is one line on stderr that names the error, and exit code 2."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    name = f"gpu-sharing-plugin{program}"
    line = f"cannot understand the command line: {problem}; see {name} --help\n"
    assert capsys.readouterr() == ("", line)


def test_a_bad_setting_is_a_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag with a bad value is one line on stderr that names it, and exit code 2."""
    assert main(["run", "--log-level=loud"]) == 2
    line = 'cannot use --log-level="loud": write debug or info or warning or error\n'
    assert capsys.readouterr() == ("", line)


def test_a_drill_without_a_node_is_a_line_and_exit_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A drill that finds no simulated node is one line on stderr, and exit code 1."""
    assert main(["drill", "lost", "--gpu=0", f"--runtime-dir={tmp_path}"]) == 1
    line = f'cannot find a simulated node in "{tmp_path}": set --runtime-dir to the folder that'
    assert capsys.readouterr() == ("", f"{line} `simulate` shows\n")


def test_the_help_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """`run --help` names every flag with its aliases, its environment variables and its help."""
    with pytest.raises(SystemExit) as end:
        parser("1.2.3").parse_args(["run", "--help"])
    assert end.value.code == 0
    shown = "".join(capsys.readouterr().out.split())
    for option in OPTIONS:
        assert all(flag in shown for flag in option.flags)
        names = f"[{', '.join(option.environment)}]" if option.environment else "--"
        assert f"{option.help}{names}".replace(" ", "") in shown  # argparse wraps it


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version alone."""
    with pytest.raises(SystemExit) as end:
        parser("1.2.3").parse_args(["--version"])
    assert (end.value.code, capsys.readouterr().out) == (0, "1.2.3\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["--log-level=debug"], {"service.logLevel": "debug"}),
        (["--log-level", "debug"], {"service.logLevel": "debug"}),
        (["--kubelet-socket="], {"service.kubeletSocket": ""}),
        (["--container-driver-root=/a"], {"flags.plugin.containerDriverRoot": "/a"}),
        (["--driver-root-ctr-path=/a"], {"flags.plugin.containerDriverRoot": "/a"}),
        (["--fail-on-init-error"], {"flags.failOnInitError": "true"}),
        (["--fail-on-init-error=false"], {"flags.failOnInitError": "false"}),
        (["--pass-device-specs"], {"flags.plugin.passDeviceSpecs": "true"}),
        (["--log-level=info", "--log-level=debug"], {"service.logLevel": "debug"}),
        (["--imex-channel-ids=0"], {"imex.channelIDs": "0"}),
        (
            ["--cdi-disable-hooks=a,b", "--cdi-disable-hooks", "c"],
            {"service.cdiDisableHooks": "a,b,c"},
        ),
    ],
)
def test_flags_are_mapped_to_settings(arguments: list[str], expected: dict[str, str]) -> None:
    """A flag gives the value of its setting; a flag that is not given gives no value."""
    for command in ("run", "check-config"):
        known = parser("1.2.3").parse_args([command, *arguments])
        assert (known.command, values(known)) == (command, expected)


def test_simulate_passes_other_options_to_the_service() -> None:
    """`simulate` uses its own options, and passes the options of `run` to the service."""
    line = ["simulate", "--node=n.yaml", "--duration=1.5", "--log-level=debug"]
    known, rest = parser("1.2.3").parse_known_args(line)
    assert known == argparse.Namespace(command="simulate", node="n.yaml", duration=1.5)
    assert rest == ["--log-level=debug"]
