"""Compose the settings of the health monitor, which is the only process that opens the driver."""

from pathlib import Path

from msgspec.structs import replace

from health import xid_policy
from proto.advertising import MigStrategy
from proto.grey import GreyRule, GreySettings
from proto.monitor import CdiSettings, MonitorSettings, ReadinessRules, Recovery
from proto.paths import Paths
from proto.reasons import ReasonKind
from proto.worker import CDI_STRATEGIES
from simulator.live_node import LiveNode
from supervisor.config.file_schema import Flags
from supervisor.config.health_schema import GreySection
from supervisor.config.service_settings import KERNEL_LOG
from supervisor.config.settings import Settings

LONGEST_PATIENCE = 5.0
"""The most seconds that a new monitor waits for a GPU that does not answer."""


def monitor_settings(settings: Settings, paths: Paths) -> MonitorSettings:
    """Return the settings of the health monitor."""
    root = settings.configuration.flags.plugin.container_driver_root
    health = settings.configuration.health
    recovery = Recovery(health.recovery.mode, health.recovery.quiet_period, health.recovery.probes)
    real = MonitorSettings(
        paths,
        binding="health.binding",
        binding_argument=root,
        # Without a mounted root, driver and device nodes are where we are. The monitor looks which
        # it is: a mount may be dead, and a driver may come later.
        dev_roots=(root, "/"),
        driver_root=root,
        discovery=settings.configuration.flags.device_discovery_strategy,
        poll_interval=health.poll_interval,
        usage_interval=float(settings.configuration.usage.interval),
        hang_after=health.hang_after,
        # Else one GPU that hangs would make a new monitor too late for all the others.
        patience=min(LONGEST_PATIENCE, health.stale_after / 2),
        rescan_interval=health.rescan_interval,
        recovery=recovery,
        readiness=ReadinessRules(float(health.fabric_after), health.licence),
        grey=_grey(health.grey),
        kernel_log=settings.service.kernel_log,
        state_folder=settings.service.state_dir,
        cdi=_cdi(settings),
        xids=xid_policy.policy(settings.xids),
        whole_gpus=settings.configuration.flags.mig_strategy is MigStrategy.NONE,
        unified_mib=settings.configuration.unified_mib,
        imex_channels=settings.configuration.imex.channel_ids,
    )
    return real if settings.node is None else _simulated(real, settings.service.runtime_dir)


def _simulated(real: MonitorSettings, runtime_dir: str) -> MonitorSettings:
    """Return the settings of a *real* monitor for a simulated node."""
    live = LiveNode(Path(runtime_dir))
    return replace(
        real,
        binding="simulator.nvml",
        binding_argument=runtime_dir,
        driver_root=str(live.root),
        # A root that was given may have device nodes to hand out.
        dev_roots=(*(root for root in real.dev_roots if root != "/"), str(live.root)),
        sysfs=str(live.sysfs),
        # The log of this machine says nothing about simulated GPUs.
        kernel_log="" if real.kernel_log == KERNEL_LOG else real.kernel_log,
        procfs=str(live.procfs),
    )


def _grey(section: GreySection) -> GreySettings:
    rules = {
        ReasonKind.PCIE: section.pcie,
        ReasonKind.SLOWDOWN: section.slowdown,
        ReasonKind.CLOCKS: section.clocks,
        ReasonKind.ECC_CORRECTED: section.ecc_corrected,
        ReasonKind.SPARE_ROWS: section.spare_rows,
        ReasonKind.PERSISTENCE: section.persistence,
        ReasonKind.FABRIC: section.fabric,
        ReasonKind.GPU_MISSING: section.gpu_missing,
    }
    unhealthy = frozenset(kind for kind, rule in rules.items() if rule is GreyRule.UNHEALTHY)
    return GreySettings(unhealthy, section.after)


def _cdi(settings: Settings) -> CdiSettings | None:
    flags, service = settings.configuration.flags, settings.service
    if not CDI_STRATEGIES & set(flags.plugin.list_strategies):
        return None
    vendor, _, device_class = service.cdi_kind.partition("/")
    return CdiSettings(
        spec_folder=service.cdi_spec_dir,
        vendor=vendor,
        device_class=device_class,
        device_names=flags.plugin.device_id_strategy,
        hook_path=flags.plugin.nvidia_ctk_path,
        driver_root=flags.nvidia_driver_root,
        dev_root=flags.nvidia_dev_root or flags.nvidia_driver_root,
        container_driver_root=flags.plugin.container_driver_root,
        feature_flags=service.cdi_feature_flags,
        disabled_hooks=service.cdi_disable_hooks,
        modes=(*features(flags), *(["imex"] if settings.configuration.imex.channel_ids else [])),
    )


def features(flags: Flags) -> tuple[str, ...]:
    """Return the names of what is passed to containers beside GPUs."""
    enabled = {
        "gdrcopy": flags.gdrcopy_enabled,
        "gds": flags.gds_enabled,
        "mofed": flags.mofed_enabled,
    }
    return tuple(name for name, on in enabled.items() if on)
