"""The C compiler."""

import shutil
import subprocess
from pathlib import Path

COMPILER = shutil.which("cc") or "cc"
FLAGS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror")


def build(target: Path, source: Path, *options: str) -> None:
    """Compile a program, or what the options say; RuntimeError with the compiler's words."""
    command = [COMPILER, *FLAGS, *options, "-o", str(target), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"cannot build {target}: {error.stderr}") from error
    except OSError as error:
        raise RuntimeError(f"cannot build {target}: {error}") from error
