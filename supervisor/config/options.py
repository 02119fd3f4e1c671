"""The options of `run`."""

from proto.advertising import MigStrategy
from proto.labels import FEATURE_FILE, PRODUCT_NAME, SYSFS, LabelOutput
from proto.monitor import Discovery
from proto.worker import AllocationPolicy, DeviceIdStrategy, DeviceListStrategy
from supervisor import logs
from supervisor.config import gfd
from supervisor.config.choose_file import Fallback
from supervisor.config.option import (
    LONGEST_ADDRESS,
    LONGEST_FILE_NAME,
    LONGEST_KEY,
    LONGEST_NAME,
    LONGEST_SHARES,
    Option,
    boolean,
    host_name,
    number,
    one_of,
    several,
)

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
        "folder of configuration files; the file is chosen by the node's label, then by "
        "--config-default, then by --config-fallback-strategies",
        ("CONFIG_DIR",),
    ),
    Option(
        ("--config-label",),
        "service.configLabel",
        "node label whose value is the name of a file in --config-dir; needs --node-name",
        ("CONFIG_LABEL",),
        most=LONGEST_KEY,
    ),
    Option(
        ("--config-default",),
        "service.configDefault",
        "file in --config-dir for a node without the label",
        ("CONFIG_DEFAULT",),
        most=LONGEST_FILE_NAME,
    ),
    Option(
        ("--config-fallback-strategies",),
        "service.configFallbackStrategies",
        "for a node without the label, if --config-default is not set, try in this order: named "
        "(the file called default), single (the only file), empty (no file, built-in defaults)",
        ("CONFIG_FALLBACK_STRATEGIES",),
        several(one_of(*Fallback)),
        repeatable=True,
    ),
    Option(
        ("--node-name",),
        "service.nodeName",
        "name of this node in the cluster",
        ("NODE_NAME",),
        most=LONGEST_NAME,
    ),
    Option(
        ("--node-events",),
        "service.nodeEvents",
        "create Events on the node for fatal Xids and for GPUs that become Unhealthy or Healthy",
        ("NODE_EVENTS",),
        boolean,
        switch=True,
    ),
    Option(
        ("--node-condition",),
        "service.nodeCondition",
        "set the node conditions XidCriticalError and GpuUnhealthy",
        ("NODE_CONDITION",),
        boolean,
        switch=True,
    ),
    Option(
        ("--node-taint",),
        "service.nodeTaint",
        "taint the node with nvidia.com/gpu-unhealthy=REASON:NoSchedule while all its GPUs are "
        "Unhealthy",
        ("NODE_TAINT",),
        boolean,
        switch=True,
    ),
    Option(
        ("--dra-check",),
        "service.draCheck",
        "ask the API server at the start and each hour whether a DRA driver offers GPUs that are "
        "advertised here",
        ("DRA_CHECK",),
        boolean,
        switch=True,
    ),
    Option(
        ("--node-labels",),
        "service.nodeLabels",
        "label the node with what its GPUs are: off, file (a file that node feature discovery "
        "reads), nodefeature (an object that it reads) or node (without node feature discovery); "
        "nodefeature and node need --node-name",
        ("NODE_LABELS",),
        one_of(*LabelOutput),
    ),
    Option(
        ("--node-labels-file",),
        "service.nodeLabelsFile",
        "the file of --node-labels=file; by default the one in flags.gfd.outputFile, or else "
        f"{FEATURE_FILE}",
        ("NODE_LABELS_FILE", "GFD_OUTPUT_FILE"),
    ),
    Option(
        ("--node-labels-health",),
        "service.nodeLabelsHealth",
        "label the node also with how many of its GPUs are Healthy",
        ("NODE_LABELS_HEALTH",),
        boolean,
        switch=True,
    ),
    Option(
        ("--node-labels-interval",),
        "service.nodeLabelsInterval",
        "time after which the file is written again, such as 60s; it expires after three times "
        "that; infinite: it never expires; by default flags.gfd.sleepInterval, or else 60s",
        ("NODE_LABELS_INTERVAL", "GFD_SLEEP_INTERVAL"),
        gfd.interval,
    ),
    Option(
        ("--machine-type-file",),
        "service.machineTypeFile",
        "file with the kind of machine for the node's labels; by default the one in "
        f"flags.gfd.machineTypeFile, or else {SYSFS}/{PRODUCT_NAME}",
        ("MACHINE_TYPE_FILE", "GFD_MACHINE_TYPE_FILE"),
    ),
    Option(
        ("--pod-name",),
        "service.podName",
        "name of this pod, whose owner then owns the object of --node-labels=nodefeature",
        ("POD_NAME",),
        most=LONGEST_NAME,
    ),
    Option(
        ("--resource-config",),
        "service.resourceConfig",
        "share resources: ORIGINAL:NEW:REPLICAS, several separated by commas; REPLICAS -1 means "
        "one replica per 1000 MiB of a device's memory",
        ("NVIDIA_DRIVER_RESOURCE_CONFIG",),
        most=LONGEST_SHARES,
    ),
    Option(
        ("--fail-on-init-error",),
        "flags.failOnInitError",
        "exit if at the start the driver is not available, or the configuration does not fit the "
        "node; false: wait and retry",
        ("FAIL_ON_INIT_ERROR",),
        boolean,
        switch=True,
    ),
    Option(
        ("--driver-root-ctr-path", "--container-driver-root"),
        "flags.plugin.containerDriverRoot",
        "where the driver root is mounted in this container; NVML is loaded from this folder or, "
        "if it is not there, from the default library path",
        ("DRIVER_ROOT_CTR_PATH", "CONTAINER_DRIVER_ROOT"),
    ),
    Option(
        ("--driver-root", "--nvidia-driver-root"),
        "flags.nvidiaDriverRoot",
        "root of the driver installation on the host",
        ("NVIDIA_DRIVER_ROOT",),
    ),
    Option(
        ("--dev-root", "--nvidia-dev-root"),
        "flags.nvidiaDevRoot",
        "folder on the host that contains dev/ with the device nodes; by default the driver root",
        ("NVIDIA_DEV_ROOT",),
    ),
    Option(
        ("--mig-strategy",),
        "flags.migStrategy",
        "how to advertise GPUs in MIG mode: none (as whole GPUs), single (MIG instances as "
        "nvidia.com/gpu) or mixed (one resource per MIG profile)",
        ("MIG_STRATEGY",),
        one_of(*MigStrategy),
    ),
    Option(
        ("--device-list-strategy",),
        "flags.plugin.deviceListStrategy",
        "how devices are passed to containers: envvar, volume-mounts, cdi-annotations, cdi-cri; "
        "several are allowed",
        ("DEVICE_LIST_STRATEGY",),
        several(one_of(*DeviceListStrategy)),
        repeatable=True,
    ),
    Option(
        ("--device-id-strategy",),
        "flags.plugin.deviceIDStrategy",
        "how device IDs are passed to containers: uuid or index",
        ("DEVICE_ID_STRATEGY",),
        one_of(*DeviceIdStrategy),
    ),
    Option(
        ("--pass-device-specs",),
        "flags.plugin.passDeviceSpecs",
        "also pass the device nodes to containers; needed with the static CPU manager policy",
        ("PASS_DEVICE_SPECS",),
        boolean,
        switch=True,
    ),
    Option(
        ("--shared-devices-allocation-policy",),
        "flags.plugin.sharedDevicesAllocationPolicy",
        "how to choose replicas and MIG instances for a container: distributed (over many GPUs), "
        "packed (fill one GPU after the other) or spread (never two from the same GPU)",
        ("SHARED_DEVICES_ALLOCATION_POLICY",),
        one_of(*AllocationPolicy),
    ),
    Option(
        ("--gdrcopy-enabled",),
        "flags.gdrcopyEnabled",
        "give containers access to GDRCopy",
        ("GDRCOPY_ENABLED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--gds-enabled",),
        "flags.gdsEnabled",
        "give containers access to GPUDirect Storage",
        ("GDS_ENABLED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--mofed-enabled",),
        "flags.mofedEnabled",
        "give containers access to MOFED (InfiniBand) devices",
        ("MOFED_ENABLED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--imex-channel-ids",),
        "imex.channelIDs",
        "IMEX channels for containers, such as 0 or 0,1; empty: no channel",
        ("IMEX_CHANNEL_IDS",),
        several(number),
        repeatable=True,
    ),
    Option(
        ("--imex-required",),
        "imex.required",
        "advertise nothing while one of the IMEX channels is missing",
        ("IMEX_REQUIRED",),
        boolean,
        switch=True,
    ),
    Option(
        ("--nvidia-cdi-hook-path", "--nvidia-ctk-path"),
        "flags.plugin.nvidiaCTKPath",
        "path of the CDI hook binary on the host; CDI specifications name it",
        ("NVIDIA_CDI_HOOK_PATH", "NVIDIA_CTK_PATH"),
    ),
    Option(
        ("--cdi-annotation-prefix",),
        "flags.plugin.cdiAnnotationPrefix",
        "prefix of the keys of CDI annotations",
        ("CDI_ANNOTATION_PREFIX",),
    ),
    Option(
        ("--cdi-kind",),
        "service.cdiKind",
        "VENDOR/CLASS of the CDI device names",
        ("CDI_KIND",),
        most=LONGEST_KEY,
    ),
    Option(
        ("--cdi-spec-dir",),
        "service.cdiSpecDir",
        "folder for the CDI specifications that this plugin writes",
        ("CDI_SPEC_DIR",),
    ),
    Option(
        ("--cdi-feature-flags",),
        "service.cdiFeatureFlags",
        "feature flags for nvidia-ctk",
        ("CDI_FEATURE_FLAGS",),
        several(str),
        repeatable=True,
    ),
    Option(
        ("--cdi-disable-hooks",),
        "service.cdiDisableHooks",
        "hooks that nvidia-ctk leaves out of CDI specifications, or all",
        ("CDI_DISABLE_HOOKS",),
        several(str),
        repeatable=True,
    ),
    Option(
        ("--device-discovery-strategy",),
        "flags.deviceDiscoveryStrategy",
        "how to find GPUs: auto (by what is on the node), nvml (with NVML only) or tegra (the node "
        "is a Tegra, whatever is visible in the container); see platforms.md",
        ("DEVICE_DISCOVERY_STRATEGY",),
        one_of(*Discovery),
    ),
    Option(
        ("--mps-root",),
        "flags.mpsRoot",
        "folder on the host for the sockets of the MPS daemons, which `mps` and `run` share; the "
        "service needs it at the same path",
        ("MPS_ROOT",),
    ),
    Option(
        ("--mps-control-path",),
        "service.mpsControlPath",
        "path of nvidia-cuda-mps-control for `mps`; by default it is searched on the PATH, then "
        "below --driver-root-ctr-path; on a simulated node, a simulated one",
        ("MPS_CONTROL_PATH",),
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
        "the kubelet's registration socket; by default kubelet.sock in --device-plugin-path; "
        "--kubelet-socket= (empty): serve without registering",
        ("KUBELET_SOCKET",),
    ),
    Option(
        ("--runtime-dir",),
        "service.runtimeDir",
        "private folder for the service's own sockets",
        ("GPU_SHARING_RUNTIME_DIR",),
    ),
    Option(
        ("--state-dir",),
        "service.stateDir",
        "folder that keeps the faults of devices across restarts",
        ("GPU_SHARING_STATE_DIR",),
    ),
    Option(
        ("--kernel-log",),
        "service.kernelLog",
        "kernel log that the health monitor reads beside NVML's events, or a fifo or text file "
        "with its lines; --kernel-log= (empty): none",
        ("GPU_SHARING_KERNEL_LOG",),
    ),
    Option(
        ("--metrics-address",),
        "service.metricsAddress",
        "HOST:PORT for metrics, probes and status; port 0: a free port, which the log shows; the "
        "default of `mps` is :9451",
        ("METRICS_ADDRESS",),
        most=LONGEST_ADDRESS,
    ),
    Option(
        ("--metrics-tls-cert",),
        "service.metricsTlsCert",
        "TLS certificate of the metrics port, with its chain; the port then serves HTTPS only",
        ("METRICS_TLS_CERT",),
    ),
    Option(
        ("--metrics-tls-key",),
        "service.metricsTlsKey",
        "private key of the TLS certificate",
        ("METRICS_TLS_KEY",),
    ),
    Option(
        ("--metrics-client-ca",),
        "service.metricsClientCa",
        "CA file: clients need a certificate signed by it to read anything but the probes",
        ("METRICS_CLIENT_CA",),
    ),
    Option(
        ("--metrics-token-file",),
        "service.metricsTokenFile",
        "file with a bearer token: clients need the token to read anything but the probes",
        ("METRICS_TOKEN_FILE",),
    ),
    Option(
        ("--metrics-allowed-hosts",),
        "service.metricsAllowedHosts",
        "names by which clients may reach the metrics port, besides IP addresses, localhost and "
        "the node's name; *.example.com: all names in a domain; *: all names",
        ("METRICS_ALLOWED_HOSTS",),
        several(host_name),
        repeatable=True,
    ),
    Option(
        ("--pod-resources-socket",),
        "service.podResourcesSocket",
        "the kubelet's pod resources socket, which tells which container holds which device; "
        "--pod-resources-socket= (empty): do not show holders",
        ("POD_RESOURCES_SOCKET",),
    ),
    Option(
        ("--pod-labels",),
        "service.podLabels",
        "show in the metrics which pods hold devices",
        ("POD_LABELS",),
        boolean,
        switch=True,
    ),
    Option(
        ("--pod-usage",),
        "service.podUsage",
        "tell which container uses how much of a GPU; needs the node's process IDs and the "
        "kubelet's log folders",
        ("POD_USAGE",),
        boolean,
        switch=True,
    ),
    Option(
        ("--simulated-node",),
        "service.simulatedNode",
        "node file: serve the simulated GPUs in it instead of real ones",
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
        "least severe lines to log: debug, info, warning or error",
        ("LOG_LEVEL",),
        one_of(*logs.Level),
    ),
)
