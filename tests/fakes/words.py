"""The command line of a service under test."""

from pathlib import Path


def words_of(folder: Path, options: tuple[str, ...]) -> list[str]:
    """Return the command line after the program's name."""
    command, given = ("mps", options[1:]) if options[:1] == ("mps",) else ("run", options)
    return [
        command,
        f"--runtime-dir={folder}",
        f"--state-dir={folder}/state",
        f"--device-plugin-path={folder}/kubelet",
        f"--pod-resources-socket={folder}/pod-resources.sock",
        "--metrics-address=127.0.0.1:0",
        "--log-format=json",
        *given,
    ]
