"""Which CDI specifications are written, and with which commands of the toolkit."""

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
    """Files bear the vendor's and the class's name; a mode is a class of its own."""
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
    """Flags and hooks are repeated, the roots are those seen here, the hook's is the host's."""
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
    """The specification of a mode is generated in that mode, under its name as the class."""
    settings = msgspec.structs.replace(SETTINGS, modes=("gds",))
    command = cdi.generation("ctk", settings, cdi.specs(settings)[1], HERE, Path("f"))

    assert {"--mode=gds", "--class=gds"} <= set(command)


def test_paths_are_rewritten_in_place() -> None:
    """A root is replaced in the file itself, on the host's side."""
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
def test_roots_are_the_hosts_in_the_end(
    driver: str, dev: str, host_driver: str, host_dev: str, expected: list[tuple[str, str]]
) -> None:
    """Each root that differs is replaced, the device nodes' before the one that contains it."""
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
    """What is no specification of the kind asked for never gets into its place."""
    with pytest.raises(cdi.CdiError, match=problem):
        cdi.check(content, "v/gpu")


def test_good_output_is_accepted() -> None:
    """A specification of the kind asked for is fine."""
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
def test_the_reason_is_in_the_last_line(output: bytes, reason: str) -> None:
    """Of a log line the message is the reason, without the time that would make it a new one."""
    assert cdi.reason(output) == reason
