"""How settings reach the child processes."""

from pathlib import Path

import pytest

from proto.control import Withhold
from proto.exporter import ExporterSettings
from proto.grey import GreySettings
from proto.monitor import CdiSettings, MonitorSettings
from proto.problem import ProblemKind
from proto.reasons import ReasonKind
from proto.worker import (
    AllocationPolicy,
    DeviceIdStrategy,
    DeviceListStrategy,
    Handout,
    ResourcePlan,
    WorkerSettings,
)
from supervisor.compose import compose
from supervisor.config.settings import load
from tests.unit.builders import gpu, inventory, mig_gpu
from tests.unit.test_sharing import entries

RESOURCE = ResourcePlan("nvidia.com/gpu.shared", ())


def handout(flags: dict[str, str]) -> Handout:
    """Return the workers' settings for Allocate with these flags."""
    settings = compose(load(flags, {})).worker(RESOURCE).settings
    assert isinstance(settings, WorkerSettings)
    return settings.handout


def cdi(flags: dict[str, str]) -> CdiSettings | None:
    """Return the monitor's CDI settings with these flags."""
    settings = compose(load(flags, {})).children[0].settings
    assert isinstance(settings, MonitorSettings)
    return settings.cdi


HANDOUTS: dict[str, tuple[dict[str, str], Handout]] = {
    "nothing": ({}, Handout()),
    "list strategies": (
        {"flags.plugin.deviceListStrategy": "volume-mounts,cdi-cri"},
        Handout((DeviceListStrategy.VOLUME_MOUNTS, DeviceListStrategy.CDI_CRI)),
    ),
    "index": (
        {"flags.plugin.deviceIDStrategy": "index"},
        Handout(id_strategy=DeviceIdStrategy.INDEX),
    ),
    "device nodes": ({"flags.plugin.passDeviceSpecs": "true"}, Handout(pass_device_specs=True)),
    "the driver's root": ({"flags.nvidiaDriverRoot": "/driver"}, Handout(dev_root="/driver")),
    "the devices' root": (
        {"flags.nvidiaDriverRoot": "/driver", "flags.nvidiaDevRoot": "/dev-root"},
        Handout(dev_root="/dev-root"),
    ),
    "CDI": (
        {"service.cdiKind": "example.com/card", "flags.plugin.cdiAnnotationPrefix": "x/"},
        Handout(cdi_kind="example.com/card", cdi_annotation_prefix="x/"),
    ),
    "features": (
        {"flags.mofedEnabled": "1", "flags.gdsEnabled": "1", "flags.gdrcopyEnabled": "1"},
        Handout(features=("gdrcopy", "gds", "mofed")),
    ),
    "one feature": ({"flags.gdsEnabled": "1"}, Handout(features=("gds",))),
    "IMEX": ({"imex.channelIDs": "0"}, Handout(imex_channels=(0,))),
    "policy": (
        {"flags.plugin.sharedDevicesAllocationPolicy": "spread"},
        Handout(policy=AllocationPolicy.SPREAD),
    ),
}


@pytest.mark.parametrize(("flags", "expected"), HANDOUTS.values(), ids=HANDOUTS)
def test_settings_of_allocate_reach_the_workers(flags: dict[str, str], expected: Handout) -> None:
    """Each setting of Allocate reaches the workers, and changes no other setting."""
    assert handout(flags) == expected


@pytest.mark.parametrize(
    ("more", "single"),
    [
        ("", False),
        ("failRequestsGreaterThanOne: false, ", False),
        ("failRequestsGreaterThanOne: true, ", True),
    ],
    ids=["default", "false", "true"],
)
def test_requests_of_more_than_one_replica(
    tmp_path: Path,
    more: str,
    single: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A request for several replicas fails only with failRequestsGreaterThanOne."""
    path = tmp_path / "config.yaml"
    path.write_text(entries("{name: gpu, replicas: 2}", more=more))
    assert handout({"service.configFile": str(path)}) == Handout(single_replica=single)


def test_settings_of_a_worker() -> None:
    """A worker's settings have its resource, its socket, and the paths common to all."""
    service = compose(load({"service.devicePluginPath": "/plugins"}, {}))
    spec = service.worker(RESOURCE)
    assert isinstance(spec.settings, WorkerSettings)
    assert (spec.name, spec.module) == ("worker nvidia.com/gpu.shared", "workers.main")
    assert (spec.settings.plan, spec.settings.endpoint) == (RESOURCE, "nvidia-gpu.shared.sock")
    assert spec.settings.paths.kubelet_socket == "/plugins/kubelet.sock"
    assert spec.settings.stale_after == 10.0


@pytest.mark.parametrize("strategies", ["envvar", "volume-mounts", "envvar,volume-mounts"])
def test_without_a_cdi_strategy_there_are_no_specifications(strategies: str) -> None:
    """Without a CDI strategy, the monitor generates no CDI specifications."""
    assert cdi({"flags.plugin.deviceListStrategy": strategies}) is None


@pytest.mark.parametrize("strategies", ["cdi-cri", "cdi-annotations", "envvar,cdi-cri"])
def test_with_a_cdi_strategy_there_are_specifications(strategies: str) -> None:
    """With a CDI strategy, the monitor gets the settings to generate CDI specifications."""
    assert cdi({"flags.plugin.deviceListStrategy": strategies}) == CdiSettings(
        spec_folder="/var/run/cdi",
        vendor="k8s.device-plugin.nvidia.com",
        device_class="gpu",
        device_names="uuid",
        hook_path="/usr/bin/nvidia-ctk",
        driver_root="/",
        dev_root="/",
        container_driver_root="/driver-root",
    )


def test_every_cdi_setting_reaches_the_monitor() -> None:
    """Each setting of the CDI specifications reaches the monitor."""
    flags = {
        "flags.plugin.deviceListStrategy": "cdi-cri",
        "flags.plugin.deviceIDStrategy": "index",
        "flags.plugin.nvidiaCTKPath": "/opt/nvidia-ctk",
        "flags.plugin.containerDriverRoot": "/mounted",
        "flags.nvidiaDriverRoot": "/driver",
        "flags.nvidiaDevRoot": "/devices",
        "flags.gdsEnabled": "true",
        "imex.channelIDs": "0",
        "service.cdiKind": "example.com/card",
        "service.cdiSpecDir": "/etc/cdi",
        "service.cdiFeatureFlags": "a,b",
        "service.cdiDisableHooks": "all",
    }
    assert cdi(flags) == CdiSettings(
        spec_folder="/etc/cdi",
        vendor="example.com",
        device_class="card",
        device_names="index",
        hook_path="/opt/nvidia-ctk",
        driver_root="/driver",
        dev_root="/devices",
        container_driver_root="/mounted",
        feature_flags=("a", "b"),
        disabled_hooks=("all",),
        modes=("gds", "imex"),
    )


def test_resource_rules_reach_the_plan(tmp_path: Path) -> None:
    """MIG strategy, patterns, sharing and the required IMEX channel affect the plan."""
    path = tmp_path / "config.yaml"
    path.write_text(
        """
flags: {migStrategy: mixed}
resources: {gpus: [{pattern: "*H100*", name: h100}], mig: [{pattern: 1g.*, name: small}]}
sharing: {timeSlicing: {resources: [{name: small, replicas: 2, rename: tiny}]}}
"""
    )
    service = compose(load({"service.configFile": str(path)}, {}))
    found = service.plan(inventory(gpu(0), mig_gpu(1, "1g.10gb"))).resources
    assert [(plan.resource, [d.replicas for d in plan.devices]) for plan in found] == [
        ("nvidia.com/h100", [1]),
        ("nvidia.com/tiny", [2]),
    ]
    required = compose(load({"imex.required": "true", "imex.channelIDs": "0"}, {}))
    (problem,) = required.plan(inventory(gpu(0))).problems
    assert problem.kind is ProblemKind.IMEX_MISSING
    without = compose(load({"imex.required": "true"}, {}))
    assert without.plan(inventory(gpu(0))).problems == ()


@pytest.mark.parametrize(
    ("rules", "occupied", "through_dra"),
    [
        ("", False, False),
        ("occupied: report, dra: report", False, False),
        ("occupied: unhealthy", True, False),
        ("dra: withhold", False, True),
        ("occupied: unhealthy, dra: withhold", True, True),
    ],
)
def test_who_withholds_devices(
    tmp_path: Path, rules: str, *, occupied: bool, through_dra: bool
) -> None:
    """Unless a setting says so, no exporter reports them, and no monitor can be told of them."""
    file = tmp_path / "config.yaml"
    file.write_text(f"version: v1\nhealth: {{{rules}}}")
    monitor, exporter, *_ = compose(load({"service.configFile": str(file)}, {})).children
    assert isinstance(exporter.settings, ExporterSettings)
    assert exporter.settings.hold_occupied is occupied
    assert exporter.settings.hold_dra is through_dra
    assert (Withhold in monitor.takes) is (occupied or through_dra)


def test_which_grey_failures_make_unhealthy(tmp_path: Path) -> None:
    """Each rule reaches the monitor by its reason, and so does the time."""
    keys = {
        "pcie": ReasonKind.PCIE,
        "slowdown": ReasonKind.SLOWDOWN,
        "clocks": ReasonKind.CLOCKS,
        "eccCorrected": ReasonKind.ECC_CORRECTED,
        "spareRows": ReasonKind.SPARE_ROWS,
        "persistence": ReasonKind.PERSISTENCE,
        "fabric": ReasonKind.FABRIC,
        "gpuMissing": ReasonKind.GPU_MISSING,
    }
    file = tmp_path / "config.yaml"
    for key, kind in keys.items():
        file.write_text(f"version: v1\nhealth: {{grey: {{{key}: unhealthy, after: 2m}}}}")
        settings = compose(load({"service.configFile": str(file)}, {})).children[0].settings
        assert isinstance(settings, MonitorSettings)
        assert settings.grey == GreySettings(frozenset({kind}), 120.0)
