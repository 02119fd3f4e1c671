"""The systemd unit that scripts/install installs."""

from configparser import ConfigParser
from pathlib import Path

from proto.control import ExitCode
from supervisor.privileges import HANDED_ON, Capability

UNIT = Path(__file__).parents[2] / "deploy/systemd/gpu-sharing-plugin.service"


def unit() -> ConfigParser:
    """Return the unit; of a key that it has twice, the last value."""
    parsed = ConfigParser(strict=False, interpolation=None)
    parsed.read(UNIT)
    return parsed


def test_the_unit_gives_only_what_a_process_uses() -> None:
    """The unit gives the capabilities that a driver may need, and the one to give up the others.
    SYS_ADMIN is left out: on a host the monitor can open the device node for MIG.
    """
    given = set(unit()["Service"]["CapabilityBoundingSet"].split())
    assert given == {f"CAP_{kept.name}" for kept in {*HANDED_ON} - {Capability.SYS_ADMIN}}


def test_systemd_starts_a_service_again_that_exits_to_get_access() -> None:
    """Systemd restarts the service after every exit, for ever, except after a bad setting."""
    service = unit()["Service"]
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
