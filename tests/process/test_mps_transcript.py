"""The stand-in for nvidia-cuda-mps-control, asked what a real one is asked."""

from pathlib import Path

from tests.fakes.mps_host import CLIENT, MpsHost
from tests.fakes.service import PATIENCE
from tests.hardware import mps

UUID = "GPU-0056feb4-9cc9-4b30-e910-b2dbccf95216"


def test_the_standin_answers_as_the_real_daemon_did(folder: Path) -> None:
    """The stand-in answers all that scripts/hardware --mps asks as the transcript has it."""
    host = MpsHost(folder, gpus=[UUID])
    lines, _ = mps.run(str(host.program), list(CLIENT), UUID, PATIENCE)
    assert mps.compared(lines, driver=False) == mps.compared(mps.golden(), driver=False)
