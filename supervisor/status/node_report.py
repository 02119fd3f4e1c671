"""The node as a whole, in the JSON of /status."""

from msgspec import Struct

from proto.platform import PlatformKind
from proto.problem import ProblemKind


class Verdict(Struct, frozen=True):
    """The answer of a probe."""

    ok: bool
    """Whether the probe succeeds."""
    problems: tuple[str, ...]
    """Why the probe fails."""


class ProblemStatus(Struct, frozen=True):
    """A reason why the node is not served as configured, or slowly."""

    kind: ProblemKind
    """As in `gpu_sharing_node_problem`."""
    text: str
    """What is wrong and what to do."""
    fatal: bool
    """Whether a resource is missing because of it."""


class FailedGpuStatus(Struct, frozen=True):
    """A GPU that the driver cannot enumerate."""

    index: int
    """The driver's index of the GPU."""
    error: str
    """The driver's error."""


class PassedGpu(Struct, frozen=True):
    """A GPU that the kernel has given to another driver, for virtual machines."""

    pci_bus_id: str
    """Its PCI address."""
    driver: str
    """The driver, such as `vfio-pci`."""


class HangingCallStatus(Struct, frozen=True):
    """An NVML call that has not returned for `health.hangAfter`."""

    call: str
    """The NVML function."""
    index: int | None
    """The driver's index of the GPU; null: the call is not about one GPU."""
    uuid: str | None
    """The GPU's UUID; null: unknown."""
    seconds: float
    """How long the call has not returned."""


class NodeStatus(Struct, frozen=True):
    """The node as a whole."""

    driver_version: str | None
    """Version of NVIDIA's driver."""
    backend: str | None
    """Where the GPU data comes from: `nvml` or `simulated`."""
    maintenance: bool | None
    """Whether the GPUs are out of service because of `quiesce`."""
    live: Verdict
    """The answer of `/livez`."""
    ready: Verdict
    """The answer of `/readyz`."""
    problems: tuple[ProblemStatus, ...] | None
    """Reasons why the node is not served as configured, or slowly."""
    passthrough: tuple[PassedGpu, ...] | None
    """GPUs that the kernel has given to another driver, for virtual machines."""
    failed: tuple[FailedGpuStatus, ...] | None
    """GPUs that the driver cannot enumerate."""
    persisted: bool | None
    """Whether faults are saved in the state folder; if not, a restart would forget them."""
    driver_hangs: int | None
    """NVML calls that did not return within `health.hangAfter`, since the service started."""
    hanging: tuple[HangingCallStatus, ...] | None
    """NVML calls that do not return now."""
    notices: tuple[str, ...] | None
    """Settings that have no effect on this node; nothing is wrong with it."""
    name: str | None = None
    """The node's name in Kubernetes, from `--node-name`; null: it was not given."""
    hostname: str | None = None
    """The hostname that the service has; in a pod with a network of its own, the pod's name."""
    platform: PlatformKind | None = None
    """How GPUs are found and passed to containers; null: nobody has looked yet."""
    platform_evidence: tuple[str, ...] | None = None
    """What shows the platform, or of `none` what was looked for."""
