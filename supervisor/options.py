"""The options of `run`: each one's flag, environment variable and place in the settings."""

from proto.control import AllocationPolicy, DeviceIdStrategy, DeviceListStrategy
from supervisor import logs
from supervisor.choice import Fallback
from supervisor.configuration import Discovery, MigStrategy
from supervisor.option import Option, boolean, number, one_of, several

OPTIONS = (
    Option(
        ("--config-file",),
        "service.configFile",
        "configuration file, YAML or JSON",
        ("CONFIG_FILE",),
    ),
    Option(
        ("--config-dir",),
        "service.configDir",
        "folder of configuration files, of which the node's label, --config-default or a fallback "
        "chooses one",
        ("CONFIG_DIR",),
    ),
    Option(
        ("--config-label",),
        "service.configLabel",
        "label of the node whose value names the file in --config-dir; followed with --node-name",
        ("CONFIG_LABEL",),
    ),
    Option(
        ("--config-default",),
        "service.configDefault",
        "the file in --config-dir for a node without the label",
        ("CONFIG_DEFAULT",),
    ),
    Option(
        ("--config-fallback-strategies",),
        "service.configFallbackStrategies",
        "without label and default, the first of these that fits: named (the file called default), "
        "single (the only file), empty (built-in defaults)",
        ("CONFIG_FALLBACK_STRATEGIES",),
        several(one_of(*Fallback)),
        repeatable=True,
    ),
    Option(
        ("--node-name",),
        "service.nodeName",
        "this node's name in the cluster",
        ("NODE_NAME",),
    ),
    Option(
        ("--node-events",),
        "service.nodeEvents",
        "tell of fatal Xids and of GPUs that become Unhealthy or Healthy by Events of the node",
        ("NODE_EVENTS",),
        boolean,
        switch=True,
    ),
    Option(
        ("--node-condition",),
        "service.nodeCondition",
        "keep the node's condition XidCriticalError",
        ("NODE_CONDITION",),
        boolean,
        switch=True,
    ),
    Option(
        ("--resource-config",),
        "service.resourceConfig",
        "how resources are shared: ORIGINAL:NEW:REPLICAS, several separated by commas; "
        "-1 replicas means one for each 1000 MiB of a device's memory",
        ("NVIDIA_DRIVER_RESOURCE_CONFIG",),
    ),
    Option(
        ("--fail-on-init-error",),
        "flags.failOnInitError",
        "exit when the driver is not there at the start, instead of waiting for it",
        ("FAIL_ON_INIT_ERROR",),
        boolean,
        switch=True,
    ),
    Option(
        ("--driver-root-ctr-path", "--container-driver-root"),
        "flags.plugin.containerDriverRoot",
        "where the driver's root is mounted; its library is looked for there, then by the loader",
        ("DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"),
    ),
    Option(
        ("--driver-root", "--nvidia-driver-root"),
        "flags.nvidiaDriverRoot",
        "the driver's root on the host",
        ("NVIDIA_DRIVER_ROOT",),
    ),
    Option(
        ("--dev-root", "--nvidia-dev-root"),
        "flags.nvidiaDevRoot",
        "where the host has its device nodes; by default the driver's root",
        ("NVIDIA_DEV_ROOT",),
    ),
    Option(
        ("--mig-strategy",),
        "flags.migStrategy",
        "what becomes of GPUs in MIG mode: none (whole GPUs), single (their instances are the "
        "node's GPUs) or mixed (each profile is a resource)",
        ("MIG_STRATEGY",),
        one_of(*MigStrategy),
    ),
    Option(
        ("--device-list-strategy",),
        "flags.plugin.deviceListStrategy",
        "how a container learns of its devices: envvar, volume-mounts, cdi-annotations, cdi-cri; "
        "several may be given",
        ("DEVICE_LIST_STRATEGY",),
        several(one_of(*DeviceListStrategy)),
        repeatable=True,
    ),
    Option(
        ("--device-id-strategy",),
        "flags.plugin.deviceIDStrategy",
        "by what a container knows its devices: uuid or index",
        ("DEVICE_ID_STRATEGY",),
        one_of(*DeviceIdStrategy),
    ),
    Option(
        ("--pass-device-specs",),
        "flags.plugin.passDeviceSpecs",
        "hand the device nodes out too, as a static CPU manager needs",
        ("PASS_DEVICE_SPECS",),
        boolean,
        switch=True,
    ),
    Option(
        ("--shared-devices-allocation-policy",),
        "flags.plugin.sharedDevicesAllocationPolicy",
        "how replicas and MIG instances are chosen: distributed (over GPUs), packed (GPU after "
        "GPU) or spread (never two of one GPU in a container)",
        ("SHARED_DEVICES_ALLOCATION_POLICY",),
        one_of(*AllocationPolicy),
    ),
    Option(
        ("--gdrcopy-enabled",),
        "flags.gdrcopyEnabled",
        "let containers use GDRCopy",
        ("GDRCOPY_ENABLED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--gds-enabled",),
        "flags.gdsEnabled",
        "let containers use GPUDirect Storage",
        ("GDS_ENABLED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--mofed-enabled",),
        "flags.mofedEnabled",
        "let containers use MOFED (InfiniBand) devices",
        ("MOFED_ENABLED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--imex-channel-ids",),
        "imex.channelIDs",
        "IMEX channels that containers get: none, or 0",
        ("IMEX_CHANNEL_IDS",),
        several(number),
        repeatable=True,
    ),
    Option(
        ("--imex-required",),
        "imex.required",
        "advertise nothing without the IMEX channel",
        ("IMEX_REQUIRED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--nvidia-cdi-hook-path", "--nvidia-ctk-path"),
        "flags.plugin.nvidiaCTKPath",
        "the hook's binary on the host, as CDI specifications name it",
        ("NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"),
    ),
    Option(
        ("--cdi-annotation-prefix",),
        "flags.plugin.cdiAnnotationPrefix",
        "what the keys of CDI annotations begin with",
        ("CDI_ANNOTATION_PREFIX",),
    ),
    Option(
        ("--cdi-kind",),
        "service.cdiKind",
        "VENDOR/CLASS of the devices' CDI names",
        ("CDI_KIND",),
    ),
    Option(
        ("--cdi-spec-dir",),
        "service.cdiSpecDir",
        "folder in which CDI specifications are written",
        ("CDI_SPEC_DIR",),
    ),
    Option(
        ("--cdi-feature-flags",),
        "service.cdiFeatureFlags",
        "feature flags handed on to nvidia-ctk",
        ("CDI_FEATURE_FLAGS",),
        several(str),
        repeatable=True,
    ),
    Option(
        ("--cdi-disable-hooks",),
        "service.cdiDisableHooks",
        "hooks, or all, that nvidia-ctk leaves out of CDI specifications",
        ("CDI_DISABLE_HOOKS",),
        several(str),
        repeatable=True,
    ),
    Option(
        ("--device-discovery-strategy",),
        "flags.deviceDiscoveryStrategy",
        "auto or nvml, which are the same: this plugin serves GPUs that NVML knows",
        ("DEVICE_DISCOVERY_STRATEGY",),
        one_of(*Discovery),
    ),
    Option(
        ("--mps-root",),
        "flags.mpsRoot",
        "taken, as charts always set it, and without effect: MPS is not supported",
        ("MPS_ROOT",),
    ),
    Option(
        ("--device-plugin-path",),
        "service.devicePluginPath",
        "the kubelet's device plugin folder",
        ("DEVICE_PLUGIN_PATH",),
    ),
    Option(
        ("--kubelet-socket",),
        "service.kubeletSocket",
        "the kubelet's registration socket, by default kubelet.sock in --device-plugin-path; "
        "empty: serve, but do not register",
        ("KUBELET_SOCKET",),
    ),
    Option(
        ("--runtime-dir",),
        "service.runtimeDir",
        "private folder for the sockets between our processes",
        ("GPU_SHARING_RUNTIME_DIR",),
    ),
    Option(
        ("--state-dir",),
        "service.stateDir",
        "folder in which the faults of devices outlive a restart",
        ("GPU_SHARING_STATE_DIR",),
    ),
    Option(
        ("--metrics-address",),
        "service.metricsAddress",
        "HOST:PORT of metrics, probes and status; port 0 picks a free one and logs it",
        ("METRICS_ADDRESS",),
    ),
    Option(
        ("--simulated-node",),
        "service.simulatedNode",
        "node file: serve simulated GPUs instead of real ones",
    ),
    Option(
        ("--log-format",),
        "service.logFormat",
        "text or json",
        ("LOG_FORMAT",),
        one_of(*logs.Format),
    ),
    Option(
        ("--log-level",),
        "service.logLevel",
        "debug, info, warning or error",
        ("LOG_LEVEL",),
        one_of(*logs.Level),
    ),
)
