"""CDI specifications: a file is replaced completely or not at all."""

import os
import sys
from pathlib import Path

import msgspec
import pytest

from proto.control import Inventoried, Stop
from proto.monitor import MonitorSettings
from proto.paths import Paths
from simulator.live_node import LiveNode
from simulator.node import SimulatedNode
from tests.fakes.monitor import monitor
from tests.fakes.service import PATIENCE
from tests.fakes.toolkit import LIMIT, NAME, Host, received


def test_a_specification_is_written(host: Host) -> None:
    """The folder contains the output of nvidia-ctk and nothing else, and all users can read it."""
    kinds, log = host.write()

    assert kinds == ["k8s.device-plugin.nvidia.com/gpu"]
    assert host.files() == {NAME}
    assert host.spec()["kind"] == kinds[0]
    assert (host.specs / NAME).stat().st_mode & 0o777 == 0o644
    assert [(e["level"], e["message"], e["changed"]) for e in log] == [
        ("info", "CDI specification is up to date", True)
    ]
    [call] = host.calls()
    assert call[:3] == ["cdi", "generate", "--mode=nvml"]
    assert {"--driver-root=/", "--dev-root=/", "--device-name-strategy=uuid"} <= set(call)


def test_a_changed_specification_replaces_the_old_one(host: Host) -> None:
    """After a driver upgrade, the new file replaces the old one in one step."""
    host.write()
    with (host.specs / NAME).open() as old:
        host.write(driver="590.1")

        assert "580.95.05" in old.read()
    assert host.paths()[0] == "/usr/lib/libcuda.so.590.1"


def test_an_unchanged_specification_is_not_written(host: Host) -> None:
    """A file whose content would stay the same is not written: container runtimes watch it."""
    host.write()
    before = (host.specs / NAME).stat()
    kinds, log = host.write()
    after = (host.specs / NAME).stat()

    assert kinds == ["k8s.device-plugin.nvidia.com/gpu"]
    assert log[0]["changed"] is False
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert host.files() == {NAME}


@pytest.mark.parametrize(
    ("does", "problem"),
    [
        ("fail", 'exit code 1: failed to generate CDI spec: failed to get "GPU-1": GPU is lost'),
        ("garbage", "cannot use the output of nvidia-ctk: it is not JSON"),
        ("nothing", "the file is empty"),
        ("other-kind", "its kind is not k8s.device-plugin.nvidia.com/gpu"),
    ],
)
def test_after_a_failure_the_old_file_stays(host: Host, does: str, problem: str) -> None:
    """When nvidia-ctk fails, the old file stays and the log gives the reason in one line."""
    host.write()
    before = (host.specs / NAME).read_bytes()
    kinds, [entry] = host.write(does=does)

    assert kinds == []
    assert (entry["level"], entry["message"]) == ("error", "cannot write a CDI specification")
    assert problem in entry["error"]
    assert entry["file"] == str(host.specs / NAME)
    assert host.files() == {NAME}
    assert (host.specs / NAME).read_bytes() == before


def test_a_folder_that_cannot_be_written_is_an_error(host: Host) -> None:
    """When the folder cannot be created, the log gives the system's error."""
    host.folder.joinpath("run").write_text("no folder")
    kinds, [entry] = host.write()

    assert kinds == []
    assert "Not a directory" in entry["error"]


def test_a_folder_that_others_can_change_is_not_written_to(host: Host) -> None:
    """A folder that other users can change is not used: runtimes trust its files as root."""
    host.specs.mkdir(parents=True)
    host.specs.chmod(0o777)
    kinds, [entry] = host.write()

    assert (kinds, host.files()) == ([], set())
    assert "other users can write to it" in entry["error"]


def test_the_folder_is_readable_by_all_users(host: Host) -> None:
    """A CDI folder that the service creates is readable by all users, whatever the umask is."""
    before = os.umask(0o077)
    try:
        host.write()
    finally:
        os.umask(before)

    assert host.specs.stat().st_mode & 0o777 == 0o755
    assert (host.specs / NAME).stat().st_mode & 0o777 == 0o644


def test_files_of_a_killed_monitor_are_removed(host: Host) -> None:
    """The next run removes the temporary files that a killed monitor left behind."""
    left = host.specs / ".k8s.device-plugin.nvidia.com-gpu.work"
    left.mkdir(parents=True)
    (left / "spec.json").write_text("{")
    host.write(does="nothing")

    assert host.files() == set()


def test_a_hanging_tool_is_killed_with_its_children(host: Host, hung: int) -> None:
    """After the time limit, nvidia-ctk and its children are killed and the monitor continues."""
    host.write()
    kinds, [entry] = host.write(limit=LIMIT, does="hang-with-child")

    assert kinds == []
    assert "killed after 4 s" in entry["error"]
    assert received(hung) == b"hanging\n"
    assert received(hung) == b""
    assert host.files() == {NAME}


def test_all_specifications_share_one_limit(host: Host, hung: int) -> None:
    """All specifications share one time limit: a hanging nvidia-ctk delays the start only once."""
    host.change(modes=("gdrcopy", "gds"))
    _, log = host.write(total=LIMIT, does="hang")

    assert received(hung) == b"hanging\n"
    assert "killed after 4 s" in log[0]["error"]
    assert ["used up the time limit" in entry["error"] for entry in log[1:]] == [True, True]
    assert len(host.calls()) == 1


def test_the_tool_ends_with_the_monitor(host: Host, hung: int) -> None:
    """When the monitor is killed while nvidia-ctk hangs, nvidia-ctk ends too."""
    with host.start(does="hang") as process:
        assert received(hung) == b"hanging\n"
        process.kill()
        assert received(hung) == b""


def test_without_the_tool_there_is_one_warning(host: Host) -> None:
    """When nvidia-ctk is not found, one warning names the missing files and nothing is written."""
    host.environment["PATH"] = str(host.folder)
    host.change(modes=("gds",), container_driver_root=f"{host.folder}/driver")
    kinds, [entry] = host.write()

    assert kinds == []
    assert entry["level"] == "warning"
    assert entry["message"] == "cannot write CDI specifications: nvidia-ctk is not installed"
    assert [Path(file).name for file in entry["files"]] == [NAME, NAME.replace("gpu", "gds")]
    assert not host.specs.exists()


@pytest.mark.parametrize("mode", [0o777, 0o775], ids=["all", "group"])
def test_a_tool_that_others_can_change_is_not_run(host: Host, mode: int) -> None:
    """nvidia-ctk is not run from a folder that other users can write to: it runs as root."""
    folder = host.folder / "bin"
    folder.chmod(mode)
    kinds, [entry] = host.write()

    assert kinds == []
    assert entry["message"] == "cannot write a CDI specification"
    assert entry["error"] == (
        f'cannot use "{folder}/nvidia-ctk": other users can write to "{folder}"; '
        f'run chmod go-w "{folder}"'
    )
    assert not host.calls_file.exists()


def test_a_safe_tool_is_run_in_place_of_an_unsafe_one(host: Host) -> None:
    """A tool that only root can change is run, even if one that others can change comes first."""
    (host.folder / "bin").chmod(0o777)
    host.install(host.folder / "hooks")

    assert host.write()[0] == ["k8s.device-plugin.nvidia.com/gpu"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_a_specification_of_another_user_is_replaced(host: Host) -> None:
    """A specification that another user wrote is replaced, even if its content is right: its owner
    could change it later.
    """
    host.write()
    os.chown(host.specs / NAME, 65534, 65534)
    host.write()

    assert (host.specs / NAME).stat().st_uid == 0


@pytest.mark.parametrize("place", ["driver/usr/bin", "driver/usr/local/nvidia/toolkit", "hooks"])
def test_the_tool_is_found_outside_the_path(host: Host, place: str) -> None:
    """nvidia-ctk is found below the driver's root, or beside the hook."""
    host.install(host.folder / place)
    host.environment["PATH"] = str(Path(sys.executable).parent)
    host.change(container_driver_root=f"{host.folder}/driver")

    assert host.write()[0] == ["k8s.device-plugin.nvidia.com/gpu"]


@pytest.mark.parametrize(
    ("folders", "host_roots", "paths"),
    [
        ("driver/dev", ("/", "/"), ("/usr/lib", "/dev")),
        ("driver", ("/", "/"), ("/usr/lib", "/dev")),
        ("driver/dev", ("/opt/driver", "/"), ("/opt/driver/usr/lib", "/dev")),
        ("driver", ("/opt/driver", "/opt/driver"), ("/opt/driver/usr/lib", "/opt/driver/dev")),
        ("", ("/opt/driver", "/"), ("/opt/driver/usr/lib", "/dev")),
    ],
)
def test_paths_are_those_of_the_host(
    host: Host, folders: str, host_roots: tuple[str, str], paths: tuple[str, str]
) -> None:
    """The specification has paths of the host, wherever the driver's root is mounted here."""
    (host.folder / folders).mkdir(parents=True, exist_ok=True)
    host.change(
        container_driver_root=f"{host.folder}/driver",
        driver_root=host_roots[0],
        dev_root=host_roots[1],
    )
    host.write()

    assert host.paths() == (f"{paths[0]}/libcuda.so.580.95.05", f"{paths[1]}/nvidia0")
    assert (host.specs / NAME).stat().st_mode & 0o777 == 0o644


def test_each_mode_has_its_specification(host: Host) -> None:
    """Each mode gets its own file beside the GPUs' file; missing hardware is a warning."""
    host.change(modes=("gdrcopy", "gds", "mofed"))
    kinds, log = host.write(lacks="gds")

    assert [kind.partition("/")[2] for kind in kinds] == ["gpu", "gdrcopy", "mofed"]
    assert host.files() == {NAME.replace("gpu", name) for name in ("gpu", "gdrcopy", "mofed")}
    assert [entry["level"] for entry in log] == ["info", "info", "warning", "info"]
    assert "empty device edits" in log[2]["error"]


def test_a_node_without_gpus_is_an_error(host: Host) -> None:
    """When nvidia-ctk finds no GPU, this is an error; for another mode it is only a warning."""
    _, [entry] = host.write(lacks="nvml")

    assert entry["level"] == "error"


def test_the_specification_is_written_before_the_inventory(host: Host) -> None:
    """The monitor writes the specification before it reports GPUs: a pod needs it to start."""
    node = LiveNode(host.folder)
    node.start(msgspec.convert({"gpus": [{}]}, SimulatedNode))
    bus = f"{host.folder}/health.ipc"
    settings = MonitorSettings(
        Paths(
            health_bus=bus,
            telemetry_bus=f"{host.folder}/telemetry.ipc",
            kubelet_socket="",
            plugin_folder=str(host.folder),
        ),
        binding="simulator.nvml",
        binding_argument=str(host.folder),
        sysfs=str(node.sysfs),
        state_folder=f"{host.folder}/state",
        cdi=host.settings,
    )
    with monitor(settings, host.environment) as running:
        assert isinstance(running.report(), Inventoried)
        assert host.files() == {NAME}
        running.channel.send(Stop())
        assert running.process.wait(PATIENCE) == 0
