"""The systemd unit that scripts/install installs."""

from configparser import ConfigParser
from pathlib import Path

from proto.control import ExitCode

UNIT = Path(__file__).parents[2] / "deploy/systemd/gpu-sharing-plugin.service"


def test_systemd_starts_a_service_again_that_exits_to_get_access() -> None:
    """Systemd restarts the service after every exit, for ever, except after a bad setting."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(UNIT)
    assert unit["Service"]["Restart"] == "always"
    assert unit["Service"]["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
