"""Ask a real nvidia-cuda-mps-control what it does, and compare that with what was seen before.

It prints a transcript, and then how it differs from `mps-580.159.04.txt` beside this file. It needs
only the standard library, and with a real daemon a GPU that nothing uses. Compute mode stays as it
is. The same list of questions is put to the stand-in by a test, so that the stand-in is true.
"""

import argparse
import difflib
import shutil
import sys
import tempfile
from pathlib import Path

from tests.hardware import mps_faults, mps_sections
from tests.hardware.mps_sections import Check, Section
from tests.hardware.nvml_processes import first_gpu
from tests.hardware.transcript import Transcript

GOLDEN = Path(__file__).with_name("mps-580.159.04.txt")
"""Each line begins with a space if hardware has said so, or with ? if only the stand-in has."""

REAL_CLIENT = f"{sys.executable} -m tests.hardware.mps_client"

SECTIONS: dict[str, Section] = {
    "no daemon, then one": mps_sections.nobody,
    "settings without a server": mps_sections.defaults,
    "a server": mps_sections.server,
    "a client": mps_sections.client,
    "a client is killed": mps_faults.killed_client,
    "a client faults": mps_faults.fault,
    "a server is stopped": mps_faults.stopped_server,
    "a server is killed": mps_faults.killed_server,
    "the daemon gets a signal": mps_faults.ends,
    "quit with a client": mps_faults.quits,
    "folders": mps_faults.folders,
    "without -multiuser-server": mps_faults.others,
    "a GPU that is not there": mps_faults.unknown_gpu,
    "in the background": mps_faults.background,
}


def compared(lines: list[str], *, driver: bool) -> list[str]:
    """Return the lines that two runs share; without a driver, those that need none."""
    return [line for line in lines if not line.startswith("~") and (driver or line[:3] != "hw ")]


def golden() -> list[str]:
    """Return the transcript of the file, without its comments and marks."""
    lines = GOLDEN.read_text().splitlines()
    return [line[2:] for line in lines if not line.startswith("#")]


def run(control: str, client: list[str], uuid: str, patience: float = 5) -> tuple[list[str], bool]:
    """Put all questions; return the transcript, and whether there is a driver."""
    folder = Path(tempfile.mkdtemp(prefix="mps-"))
    try:
        folder.chmod(0o755)  # a server may run as another user
        with first_gpu() as gpu:
            out = Transcript(uuid, folder, patience)
            check = Check(out, control, client, uuid, folder, gpu)
            for title, section in SECTIONS.items():
                out.title(title)
                if gpu:
                    out.say(f"hw compute mode {gpu.compute_mode()}")
                try:
                    section(check)
                except Exception as error:  # noqa: BLE001 - the other sections still tell something
                    out.say(f"cannot go on here: {error!r}")
                _empty(folder)
            return out.lines, gpu is not None
    finally:
        shutil.rmtree(folder)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> int:
    """Print the transcript and what is new in it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--mps-control-path", default=shutil.which("nvidia-cuda-mps-control"))
    parser.add_argument("--client", default=REAL_CLIENT, help="command of the CUDA program")
    parser.add_argument("--gpu", default="", metavar="UUID", help="default: NVML's first GPU")
    parser.add_argument("--write", type=Path, metavar="FILE", help="file like the committed one")
    given = parser.parse_args()
    if not given.mps_control_path:
        parser.error("cannot find nvidia-cuda-mps-control: set --mps-control-path")
    with first_gpu() as gpu:
        uuid = given.gpu or (gpu.uuid() if gpu else "")
    if not uuid:
        parser.error("cannot find a GPU with NVML: set --gpu")
    lines, driver = run(given.mps_control_path, given.client.split(), uuid)
    new = compared(lines, driver=driver)
    if given.write:
        given.write.write_text("".join(f"  {line}".rstrip() + "\n" for line in new))
    old = compared(golden(), driver=driver)
    difference = list(difflib.unified_diff(old, new, "before", "now", lineterm="", n=2))
    print("\n".join(["", "== differences", *difference]))  # noqa: T201
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
