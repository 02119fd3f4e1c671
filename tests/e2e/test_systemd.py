"""The systemd unit, as scripts/install installs it, in a real systemd of its own."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon, children, title, wait_until

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[2]
NAME = "gpu-sharing-plugin"
BOOTED = Path("/run/systemd/system")

# Off: options that a user's systemd cannot apply, because it cannot mount. On: a short watchdog.
DROP_IN = """\
[Service]
ExecStart=
ExecStart={prefix}/bin/gpu-sharing-plugin run --simulated-node={folder}/node.yaml \
 --runtime-dir=%t/gpu-sharing-plugin --state-dir=%S/gpu-sharing-plugin
Environment=DEVICE_PLUGIN_PATH={folder}/kubelet METRICS_ADDRESS=127.0.0.1:0
WatchdogSec=3
ProtectSystem=no
ReadWritePaths=
ProtectHome=no
PrivateMounts=no
PrivateTmp=no
ProtectControlGroups=no
ProtectKernelLogs=no
ProtectKernelTunables=no
ProtectHostname=no
ProtectClock=no
"""


def installer(folder: Path) -> dict[str, str]:
    """Return the environment in which scripts/install writes only below *folder*."""
    return {
        **os.environ,
        "PREFIX": str(folder / "opt"),
        "UNITS": str(folder / "config/systemd/user"),
        "SETTINGS": str(folder / "etc"),
    }


def install(folder: Path, *arguments: str) -> None:
    """Run scripts/install for *folder*."""
    subprocess.run([REPOSITORY / "scripts/install", *arguments], check=True, env=installer(folder))


class Systemd:
    """A running systemd, and systemctl for it."""

    def __init__(self, folder: Path) -> None:
        (folder / "run").mkdir()
        self._environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "HOME": str(folder),
        }
        assignments = [f"{key}={self._environment[key]}" for key in ("XDG_RUNTIME_DIR", "HOME")]
        assignments.append(f"XDG_CONFIG_HOME={folder / 'config'}")
        command = ["/usr/bin/env", *assignments, "/lib/systemd/systemd", "--user"]
        self._daemon = Daemon(command, folder / "systemd.log")
        self._daemon.wait_ready(lambda: self.ctl("list-units") is not None, 30, "systemd answers")

    def ctl(self, *arguments: str) -> str | None:
        """Return the output of systemctl, or None if it fails."""
        command = ["/usr/bin/systemctl", "--user", "--no-pager", *arguments]
        environment: Mapping[str, str] = self._environment
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=60
        )
        return None if done.returncode else done.stdout

    def show(self, what: str) -> str:
        """Return a property of the unit."""
        return (self.ctl("show", f"--property={what}", "--value", NAME) or "").strip()

    def stop(self) -> None:
        """Stop systemd and everything that it has started."""
        self._daemon.stop()


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """Install the service for a systemd of its own, and run this systemd."""
    if "E2E_KUBELET" not in os.environ:
        pytest.skip("needs what scripts/e2e sets up")
    folder = tmp_path_factory.mktemp("systemd")
    install(folder)
    (folder / "kubelet").mkdir()
    (folder / "node.yaml").write_text("gpus:\n  - {}\n")
    drop_in = folder / f"config/systemd/user/{NAME}.service.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(DROP_IN.format(prefix=folder / "opt", folder=folder))
    # systemctl refuses to work unless this folder exists.
    made = not BOOTED.exists()
    BOOTED.mkdir(parents=True, exist_ok=True)
    running = Systemd(folder)
    yield running
    running.stop()
    if made:
        BOOTED.rmdir()


def test_the_watchdog_restarts_a_service_that_hangs(systemd: Systemd) -> None:
    """The unit becomes ready with a status; systemd restarts it when it hangs; it stops cleanly."""
    assert systemd.ctl("start", NAME) is not None, systemd.ctl("status", NAME)
    assert systemd.show("StatusText") == "waiting to register with the kubelet: nvidia.com/gpu"
    first = int(systemd.show("MainPID"))
    os.kill(first, signal.SIGSTOP)
    wait_until(lambda: systemd.show("NRestarts") == "1", 30, "systemd starts it again")
    wait_until(lambda: systemd.show("ActiveState") == "active", 30, "it is active again")
    second = int(systemd.show("MainPID"))

    assert title(first) is None
    assert systemd.ctl("stop", NAME) is not None
    assert systemd.show("Result") == "success"
    assert title(second) is None
    assert systemd.show("ControlGroup") == ""


def rights(pid: int) -> dict[str, str]:
    """Return a process's capabilities, its no_new_privs, and its mode of seccomp (2: filters)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {key: fields[key] for key in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")}


def test_the_unit_gives_capabilities_to_the_monitor_only(systemd: Systemd) -> None:
    """In the unit every process has seccomp filters and no_new_privs. The monitor alone has
    effective capabilities, four of them; exporter and worker have none, not even in the bounding
    set.
    """
    assert systemd.ctl("start", NAME) is not None, systemd.ctl("status", NAME)
    confined = {"NoNewPrivs": "1", "Seccomp": "2"}
    # CHOWN, SYS_MODULE, MKNOD and SYSLOG; the supervisor hands on these and SETPCAP.
    driver = f"{1 << 0 | 1 << 16 | 1 << 27 | 1 << 34:016x}"
    handed_on = f"{1 << 0 | 1 << 8 | 1 << 16 | 1 << 27 | 1 << 34:016x}"
    nothing = {**dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), "0" * 16), **confined}
    supervisor = int(systemd.show("MainPID"))
    started = children(supervisor)
    found = {name.removeprefix(f"{NAME}: "): rights(pid) for pid, name in started.items()}

    assert found == {
        "monitor": {**dict.fromkeys(("CapEff", "CapPrm", "CapBnd"), driver), **confined},
        "exporter": nothing,
        "worker nvidia.com/gpu": nothing,
    }
    assert rights(supervisor) == {**nothing, "CapPrm": handed_on, "CapBnd": handed_on}


def test_an_upgrade_and_an_uninstall_keep_the_settings(tmp_path: Path) -> None:
    """Installing twice keeps the settings, and uninstalling removes everything except the settings.
    The unit is valid.
    """
    install(tmp_path)
    settings = tmp_path / f"etc/{NAME}.env"
    settings.write_text("MIG_STRATEGY=mixed\n")
    install(tmp_path)
    units = [tmp_path / f"config/systemd/user/{name}.service" for name in (NAME, f"{NAME}-mps")]
    verified = subprocess.run(
        ["/usr/bin/systemd-analyze", "verify", *units], check=False, capture_output=True, text=True
    )

    assert (verified.returncode, verified.stderr) == (0, "")
    assert settings.read_text() == "MIG_STRATEGY=mixed\n"
    assert len([*(tmp_path / "opt").glob("venv-*")]) == 2

    install(tmp_path, "--uninstall")
    assert settings.exists()
    assert not [unit for unit in units if unit.exists()]
    assert not (tmp_path / "opt").exists()
