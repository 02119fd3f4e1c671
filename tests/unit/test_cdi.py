"""CDI specifications: their files, and the NVIDIA Container Toolkit's command lines."""

from pathlib import Path

import msgspec
import pytest

from health import cdi
from proto.monitor import CdiSettings

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
HERE = cdi.DriverRoots("/driver-root", "/driver-root")
LOST = b'NAME:\n   nvidia-ctk\ntime="2026" level=error msg="no \\"GPU-1\\": lost"\n'


def test_one_specification_for_gpus_and_one_for_each_mode() -> None:
    """There is one file for GPUs and one per mode, each named after vendor and class."""
    settings = msgspec.structs.replace(SETTINGS, modes=("gdrcopy", "gds", "mofed"))

    assert [(spec.mode, spec.kind, spec.path.name) for spec in cdi.specs(settings)] == [
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
    here = cdi.DriverRoots("/driver-root", "/")
    spec = cdi.specs(settings)[0]

    assert cdi.generation("/bin/ctk", settings, spec, here, Path("/w/spec.json")) == [
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
    command = cdi.generation("ctk", settings, cdi.specs(settings)[1], HERE, Path("f"))

    assert {"--mode=gds", "--class=gds"} <= set(command)


def test_paths_are_rewritten_in_place() -> None:
    """Transforming a root reads and writes the same file, and changes host paths."""
    assert cdi.rewriting("ctk", "/driver-root", "/", Path("/w/spec.json")) == [
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

    assert list(cdi.rewrites(settings, cdi.DriverRoots(driver, dev))) == expected


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
    with pytest.raises(cdi.CdiError, match=problem):
        cdi.check(content, "v/gpu")


def test_good_output_is_accepted() -> None:
    """A CDI specification of the expected kind is accepted."""
    cdi.check(b'{"kind": "v/gpu", "devices": []}', "v/gpu")


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
    assert cdi.reason(output) == reason
