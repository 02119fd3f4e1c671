"""Why a node cannot be served as configured."""

import enum

import msgspec


class ProblemKind(enum.StrEnum):
    """Why a node cannot be served as configured."""

    MIG_NOT_UNIFORM = "mig-not-uniform"
    """MIG strategy `single` needs one MIG profile on all GPUs; nothing is advertised."""
    MIG_EMPTY = "mig-empty"
    """A GPU in MIG mode has no MIG instance; the other GPUs are advertised."""
    MIG_UNSUPPORTED = "mig-unsupported"
    """A GPU is in MIG mode on Tegra, where no container gets MIG instances; it is left out."""
    LIST_TOO_LONG = "list-too-long"
    """A resource has more devices than the kubelet accepts; it is not advertised."""
    NOT_SHARED = "not-shared"
    """A device to share is not on this node; everything else is advertised."""
    MEMORY_UNKNOWN = "memory-unknown"
    """The driver does not report a device's memory, so with `-1` replicas it has one replica, and \
with MPS no memory limit."""
    IMEX_MISSING = "imex-missing"
    """A required IMEX channel is missing; nothing is advertised."""
    CDI_SPEC = "cdi-spec"
    """The CDI specification lacks devices; they are Unhealthy with the reason `cdi-spec`."""
    SLOW_DRIVER = "slow-driver"
    """Health checks of a GPU take long; its devices are advertised and keep their health."""
    NODE_LABELS = "node-labels"
    """The labels of the node cannot be written; everything is advertised."""
    MPS_UNSUPPORTED = "mps-unsupported"
    """MPS cannot share a device as configured; it is not advertised."""
    MPS_ROOT = "mps-root"
    """Clients cannot reach the folder of the MPS daemons; devices of MPS are Unhealthy."""
    MPS_THREADS = "mps-threads"
    """The shares of the replicas leave more than a tenth of the multiprocessors unused."""
    ALSO_SERVED_BY_DRA = "also-served-by-dra"
    """A container holds an advertised device through DRA; a second container may get it here."""
    OFFERED_BY_DRA = "offered-by-dra"
    """A DRA driver offers GPUs that are advertised here; two containers may get one of them."""
    NUMA_NODES = "numa-nodes"
    """GPU memory makes more NUMA nodes than the kubelet accepts; everything is advertised."""


class Problem(msgspec.Struct, frozen=True):
    """One problem of the node, with a text for operators."""

    kind: ProblemKind
    text: str

    @property
    def fatal(self) -> bool:
        """Whether pods miss a resource because of this problem."""
        return self.kind not in {
            ProblemKind.CDI_SPEC,
            ProblemKind.MIG_EMPTY,
            ProblemKind.MIG_UNSUPPORTED,
            ProblemKind.NOT_SHARED,
            ProblemKind.MEMORY_UNKNOWN,
            ProblemKind.MPS_UNSUPPORTED,
            ProblemKind.MPS_ROOT,
            ProblemKind.MPS_THREADS,
            ProblemKind.SLOW_DRIVER,
            ProblemKind.NODE_LABELS,
            ProblemKind.ALSO_SERVED_BY_DRA,
            ProblemKind.NUMA_NODES,
            ProblemKind.OFFERED_BY_DRA,
        }
