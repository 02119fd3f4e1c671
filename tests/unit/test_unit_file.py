"""The systemd units that scripts/install installs."""

from configparser import ConfigParser
from pathlib import Path

import pytest

from proto.control import ExitCode
from supervisor.privileges import HANDED_ON, Capability

UNITS = Path(__file__).parents[2] / "deploy/systemd"
NAME, MPS = "gpu-sharing-plugin", "gpu-sharing-plugin-mps"


def unit(name: str = NAME) -> ConfigParser:
    """Return the unit; of a key that it has twice, the last value."""
    parsed = ConfigParser(strict=False, interpolation=None)
    parsed.read(UNITS / f"{name}.service")
    return parsed


def test_the_unit_gives_only_what_a_process_uses() -> None:
    """The unit gives the capabilities that a driver may need, and the one to give up the others.
    SYS_ADMIN is left out: on a host the monitor can open the device node for MIG.
    """
    given = set(unit()["Service"]["CapabilityBoundingSet"].split())
    assert given == {f"CAP_{kept.name}" for kept in {*HANDED_ON} - {Capability.SYS_ADMIN}}


@pytest.mark.parametrize("name", [NAME, MPS])
def test_systemd_starts_a_service_again_that_exits_to_get_access(name: str) -> None:
    """Systemd restarts the service after every exit, for ever, except after a bad setting."""
    service = unit(name)["Service"]
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("name", [NAME, MPS])
def test_a_reload_checks_the_configuration_first(name: str) -> None:
    """`systemctl reload` fails for a refused configuration, and sends SIGHUP for another."""
    lines = (UNITS / f"{name}.service").read_text().splitlines()
    assert [line.partition("=")[2] for line in lines if line.startswith("ExecReload=")] == [
        f"/opt/{NAME}/bin/{NAME} check-config",
        "/bin/kill -HUP $MAINPID",
    ]


def test_the_units_share_a_runtime_folder_and_nothing_else() -> None:
    """The folder in which the two talk stays when one of them stops. Neither needs the other, or
    waits for it at a start.
    """
    plugin, mps = unit()["Service"], unit(MPS)["Service"]
    for service in (plugin, mps):
        assert service["RuntimeDirectory"] == NAME
        assert service["RuntimeDirectoryPreserve"] == "yes"
    assert (plugin["StateDirectory"], mps["StateDirectory"]) == (NAME, MPS)
    assert f"--state-dir=/var/lib/{MPS}" in mps["ExecStart"]
    for name in (NAME, MPS):
        assert not unit(name)["Unit"].keys() & {"requires", "wants", "bindsto", "partof"}
        assert f"{NAME}-mps" not in unit(name)["Unit"].get("After", "")
        assert NAME not in unit(name)["Unit"]["Before"]


def test_the_daemons_outlive_a_crash_of_their_service() -> None:
    """Systemd kills the supervisor only, so that the next one finds the daemons; with their
    /dev/shm, which is the folder that containers get.
    """
    service = unit(MPS)["Service"]
    assert service["KillMode"] == "process"
    assert service["BindPaths"] == "/run/nvidia/mps/shm:/dev/shm"
    assert "--mps-root=/run/nvidia/mps " in service["ExecStart"]
    given = set(service["CapabilityBoundingSet"].split())
    assert given == {"CAP_SYS_ADMIN", "CAP_SETPCAP"}
