"""CDI specifications: their files, their devices, and the Container Toolkit's command lines."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from health import cdi_spec, nvidia_ctk
from health.cdi_spec import Device, Wanted
from proto.messages import Gpu
from proto.monitor import CdiSettings
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import gpu, gpu_uuid, instance, mig_gpu, mig_uuid

SETTINGS = CdiSettings(
    spec_folder="/var/run/cdi",
    vendor="k8s.device-plugin.nvidia.com",
    device_class="gpu",
    device_names="uuid",
    hook_path="/usr/bin/nvidia-cdi-hook",
    driver_root="/",
    dev_root="/",
    container_driver_root="/driver-root",
)
HERE = cdi_spec.DriverRoots("/driver-root", "/driver-root")
LOST = b'NAME:\n   nvidia-ctk\ntime="2026" level=error msg="no \\"GPU-1\\": lost"\n'


def test_one_specification_for_gpus_and_one_for_each_mode() -> None:
    """There is one file for GPUs and one per mode, each named after vendor and class."""
    settings = msgspec.structs.replace(SETTINGS, modes=("gdrcopy", "gds", "mofed"))

    assert [(spec.mode, spec.kind, spec.path.name) for spec in cdi_spec.specs(settings)] == [
        (mode, f"k8s.device-plugin.nvidia.com/{name}", f"k8s.device-plugin.nvidia.com-{name}.json")
        for mode, name in {
            "nvml": "gpu",
            "gdrcopy": "gdrcopy",
            "gds": "gds",
            "mofed": "mofed",
        }.items()
    ]


def test_everything_configured_is_on_the_command_line() -> None:
    """The command line has each configured flag and hook, and this container's driver roots."""
    settings = msgspec.structs.replace(
        SETTINGS,
        vendor="example.com",
        device_class="accelerator",
        device_names="index",
        feature_flags=("disable-nvsandboxutils", "no-additional-gids-for-device-nodes"),
        disabled_hooks=("chmod", "enable-cuda-compat"),
    )
    here = cdi_spec.DriverRoots("/driver-root", "/")
    spec = cdi_spec.specs(settings)[0]

    assert cdi_spec.generation("/bin/ctk", settings, spec, here, Path("/w/spec.json")) == [
        *("/bin/ctk", "cdi", "generate", "--mode=nvml"),
        *("--vendor=example.com", "--class=accelerator", "--device-name-strategy=index"),
        *("--driver-root=/driver-root", "--dev-root=/"),
        "--nvidia-cdi-hook-path=/usr/bin/nvidia-cdi-hook",
        "--feature-flag=disable-nvsandboxutils",
        "--feature-flag=no-additional-gids-for-device-nodes",
        *("--disable-hook=chmod", "--disable-hook=enable-cuda-compat"),
        *("--format=json", "--output=/w/spec.json"),
    ]


def test_a_mode_has_its_own_class() -> None:
    """A mode's specification is generated in that mode, and its CDI class is the mode."""
    settings = msgspec.structs.replace(SETTINGS, modes=("gds",))
    command = cdi_spec.generation("ctk", settings, cdi_spec.specs(settings)[1], HERE, Path("f"))

    assert {"--mode=gds", "--class=gds"} <= set(command)


def test_paths_are_rewritten_in_place() -> None:
    """Transforming a root reads and writes the same file, and changes host paths."""
    assert cdi_spec.rewriting("ctk", "/driver-root", "/", Path("/w/spec.json")) == [
        *("ctk", "cdi", "transform", "root", "--relative-to=host"),
        *("--from=/driver-root", "--to=/", "--input=/w/spec.json", "--output=/w/spec.json"),
    ]


@pytest.mark.parametrize(
    ("driver", "dev", "host_driver", "host_dev", "expected"),
    [
        ("/driver-root", "/driver-root", "/", "/", [("/driver-root", "/")]),
        ("/driver-root/", "/driver-root/", "/", "/", [("/driver-root", "/")]),
        ("/driver-root", "/", "/", "/", [("/driver-root", "/")]),
        (
            *("/driver-root", "/driver-root", "/run/nvidia/driver", "/run/nvidia/driver"),
            [("/driver-root", "/run/nvidia/driver")],
        ),
        (
            *("/driver-root", "/driver-root", "/run/nvidia/driver", "/"),
            [("/driver-root/dev", "/dev"), ("/driver-root", "/run/nvidia/driver")],
        ),
        (
            *("/driver-root", "/", "/run/nvidia/driver", "/run/nvidia/driver"),
            [("/dev", "/run/nvidia/driver/dev"), ("/driver-root", "/run/nvidia/driver")],
        ),
        ("/driver-root", "/", "/", "/dev", [("/driver-root", "/")]),
        ("/", "/", "/", "/", []),
        ("/run/nvidia/driver", "/", "/run/nvidia/driver", "/", []),
    ],
)
def test_roots_are_replaced_by_the_hosts(
    driver: str, dev: str, host_driver: str, host_dev: str, expected: list[tuple[str, str]]
) -> None:
    """A root that differs from the host's is replaced: first of device nodes, then driver."""
    settings = msgspec.structs.replace(SETTINGS, driver_root=host_driver, dev_root=host_dev)

    assert list(cdi_spec.rewrites(settings, cdi_spec.DriverRoots(driver, dev))) == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b'{"kind": "', "it is not JSON"),
        (b"\xff\xfe{", "it is not JSON"),
        (b"[]", "its kind is not v/gpu"),
        (b'{"kind": "v/other"}', "its kind is not v/gpu"),
    ],
)
def test_bad_output_is_refused(content: bytes, problem: str) -> None:
    """Output that is not a CDI specification of the expected kind is refused."""
    with pytest.raises(cdi_spec.CdiError, match=problem):
        cdi_spec.check(content, "v/gpu")


def test_good_output_is_accepted() -> None:
    """A CDI specification of the expected kind is accepted."""
    cdi_spec.check(b'{"kind": "v/gpu", "devices": []}', "v/gpu")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (LOST, 'no "GPU-1": lost'),
        (b"first\n  last  \n\n", "last"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"", "no output"),
    ],
)
def test_the_reason_is_the_last_line(output: bytes, reason: str) -> None:
    """The reason is the last line of output; of a log line, its message without the time."""
    assert cdi_spec.reason(output) == reason


TOOLKIT = "usr/local/nvidia/toolkit"


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ((), None),
        (("driver/usr/bin/nvidia-ctk",), 0),
        (("driver/usr/local/bin/nvidia-ctk", "driver/usr/bin/nvidia-ctk"), 0),
        ((f"host/{TOOLKIT}/nvidia-ctk", "host/usr/bin/nvidia-ctk"), 0),
        ((f"host/{TOOLKIT}/nvidia-ctk", f"host/{TOOLKIT}/nvidia-ctk.real"), 1),
        (("host/usr/local/bin/nvidia-ctk",), 0),
        (("host/opt/tk/nvidia-ctk", f"host/{TOOLKIT}/nvidia-ctk"), 0),
        (("driver/opt/tk/nvidia-ctk", "host/opt/tk/nvidia-ctk"), 0),
        (("driver/usr/bin/nvidia-ctk", f"host/{TOOLKIT}/nvidia-ctk"), 0),
        (("elsewhere/nvidia-ctk",), None),
    ],
)
def test_where_the_tool_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], found: int | None
) -> None:
    """The tool is found below the mounted driver root, and below the mounted root of the host."""
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = msgspec.structs.replace(
        SETTINGS,
        container_driver_root=f"{tmp_path}/driver",
        hook_path="/opt/tk/nvidia-cdi-hook",
    )
    expected = None if found is None else str(tmp_path / there[found])

    assert nvidia_ctk.find_tool(settings, f"{tmp_path}/host") == expected


WHOLE, INSTANCES = gpu(0), mig_gpu(1, "1g.10gb", "2g.20gb")
IDS = (mig_uuid(1, 0), mig_uuid(1, 1))


@pytest.mark.parametrize(
    ("gpus", "strategy", "whole", "devices"),
    [
        ([WHOLE], "uuid", False, [(gpu_uuid(0), gpu_uuid(0))]),
        ([WHOLE], "index", True, [(gpu_uuid(0), "0")]),
        ([INSTANCES], "uuid", False, [(uuid, uuid) for uuid in IDS]),
        ([INSTANCES], "index", False, [(IDS[0], "1:0"), (IDS[1], "1:1")]),
        ([INSTANCES], "index", True, [(gpu_uuid(1), "1")]),
        ([gpu(2, mig_enabled=True)], "uuid", False, []),
    ],
)
def test_the_names_that_devices_need(
    gpus: list[Gpu], strategy: str, *, whole: bool, devices: list[tuple[str, str]]
) -> None:
    """A device needs the name by which it is handed out; one that is not handed out needs none."""
    found = cdi_spec.wanted(gpus, strategy, whole=whole)
    assert [(d.uuid, d.name) for wanted in found for d in wanted.devices] == devices


M = Device("M", "1:0", instance("M", 0, 7))
N = Device("N", "1:1", instance("N", 1, 8))
TWO = (Wanted("A", (Device("A", "0"),)), Wanted("B", (M, N)))


@pytest.mark.parametrize(
    ("names", "error", "errors", "expected"),
    [
        ({"0", "1:0", "1:1", "all"}, "", {}, {}),
        ({"0", "1:0"}, "", {}, {"N": cdi_spec.UNNAMED}),
        ({"0"}, "failed", {}, {"M": "failed", "N": "failed"}),
        ({"0"}, "failed", {"A": "a", "B": "b"}, {"M": "b", "N": "b"}),
        (set(), "failed", {"B": "b"}, {"A": "failed", "M": "b", "N": "b"}),
        ({"1:0", "1:1"}, "x" * 250, {}, {"A": "..." + "x" * 197}),
    ],
)
def test_devices_without_a_name_are_unhealthy(
    names: set[str], error: str, errors: dict[str, str], expected: dict[str, str]
) -> None:
    """A device whose name is missing is Unhealthy, with its GPU's error or that of all GPUs."""
    found = cdi_spec.unnamed(TWO, frozenset(names), error, errors)
    assert found == {u: Reason(ReasonKind.CDI_SPEC, why) for u, why in expected.items()}
    assert cdi_spec.lacks(TWO, frozenset(names)) is bool(expected)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ((M, N), set()),
        ((M, N, Device("O", "1:2", instance("O", 2, 9))), set()),
        ((M,), {"1:1"}),
        ((M, Device("O", "1:1", instance("O", 1, 8))), {"1:1"}),
        ((M, Device("N", "1:1", instance("N", 1, 9))), {"1:1"}),
    ],
    ids=["the same", "one more", "one less", "another", "the same name of another instance"],
)
def test_names_of_devices_that_are_gone(now: tuple[Device, ...], expected: set[str]) -> None:
    """The name of a device that is gone is outdated, also when another device has that name."""
    assert cdi_spec.outdated(TWO, (TWO[0], Wanted("B", now))) == expected


def test_retries_become_rarer() -> None:
    """The first retry comes after a second; each wait is twice the one before, up to a minute."""
    delays = [cdi_spec.delay(failures) for failures in range(1, 9)]
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert cdi_spec.delay(10_000) == 60.0


def specification(name: str, version: str = "0.5.0", **edits: Any) -> dict[str, Any]:
    """Return a specification of one device."""
    devices = [{"name": name}, {"name": "all"}]
    return {"cdiVersion": version, "kind": "v/gpu", "devices": devices, "containerEdits": edits}


def test_specifications_are_merged() -> None:
    """A merged specification has all devices but `all`, and the edits of each document once."""
    first = specification("A", env=["a=1"], mounts=[{"hostPath": "/x"}])
    second = specification("B", "0.10.0", env=["a=1", "b=2"], hooks=[{"path": "/h"}])

    assert cdi_spec.merged([first, second], [{"name": "C", "old": True}]) == {
        "cdiVersion": "0.10.0",
        "kind": "v/gpu",
        "devices": [{"name": "C", "old": True}, {"name": "A"}, {"name": "B"}],
        "containerEdits": {
            "env": ["a=1", "b=2"],
            "mounts": [{"hostPath": "/x"}],
            "hooks": [{"path": "/h"}],
        },
    }


@pytest.mark.parametrize("devices", [None, 1, {}, [], [1, {}, {"name": 1}]])
def test_odd_devices_have_no_name(devices: object) -> None:
    """Whatever a specification has in place of devices, it names none."""
    assert cdi_spec.devices({"devices": devices}) == []
    odd = [{"devices": devices, "containerEdits": devices}]
    assert cdi_spec.merged(odd)["devices"] == []
