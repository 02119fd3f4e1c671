"""All labels that a node can have, for the documentation; a test compares them with `labels`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MODEL, PROFILE = "<model>", "<profile>"
"""What stands in a key for the model of a GPU, and for the profile of MIG instances."""

GPUS = "GPUs of the most numerous model; with MIG strategy `single`, the MIG instances"
"""The devices that the labels `gpu.*` are about."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label as the documentation describes it."""

    key: str
    """Without nvidia.com/."""
    meaning: str
    when: str = "a GPU is known"
    """When the node has the label."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """What the keys of this label match."""
        key = re.escape(self.key).replace(MODEL, "[-A-Za-z0-9_.]+")
        return re.compile(key.replace(PROFILE, "[-A-Za-z0-9_.]+?"))


DRIVER, CUDA = "a GPU is known", "a GPU is known, and the driver tells its CUDA version"
HOST = "a GPU tells it, and the monitor has SYS_ADMIN"
SINGLE = "MIG strategy `single`, and each GPU has instances of one profile"
MIXED = "MIG strategy `mixed`, and there are instances of the profile"
ATTRIBUTES = {
    "multiprocessors": "streaming multiprocessors of an instance",
    "slices.gi": "slices of its GPU instance",
    "slices.ci": "slices of its compute instance",
    "engines.copy": "copy engines of an instance",
    "engines.decoder": "video decoders of an instance",
    "engines.encoder": "video encoders of an instance",
    "engines.jpeg": "JPEG engines of an instance",
    "engines.ofa": "optical flow engines of an instance",
}
"""What the driver tells about a MIG instance."""

OF_NODE = (
    Label("gpu.machine", "product name of the machine, else `unknown`"),
    Label("cuda.driver-version.full", "version of the driver", DRIVER),
    Label("cuda.driver-version.major", "first part of that version", DRIVER),
    Label("cuda.driver-version.minor", "second part", DRIVER),
    Label("cuda.driver-version.revision", "third part, or empty", DRIVER),
    Label("cuda.driver.major", "as `cuda.driver-version.major` (deprecated by NVIDIA)", DRIVER),
    Label("cuda.driver.minor", "as `cuda.driver-version.minor` (deprecated by NVIDIA)", DRIVER),
    Label("cuda.driver.rev", "as `cuda.driver-version.revision` (deprecated by NVIDIA)", DRIVER),
    Label("cuda.runtime-version.full", "newest CUDA version that the driver supports", CUDA),
    Label("cuda.runtime-version.major", "first part of that version", CUDA),
    Label("cuda.runtime-version.minor", "second part", CUDA),
    Label("cuda.runtime.major", "as `cuda.runtime-version.major` (deprecated by NVIDIA)", CUDA),
    Label("cuda.runtime.minor", "as `cuda.runtime-version.minor` (deprecated by NVIDIA)", CUDA),
    Label(
        "gpu.mode",
        "`compute` or `graphics`, by the PCI class of all GPUs; `unknown` if they differ",
    ),
    Label(
        "gpu.clique",
        "UUID of the NVLink fabric's cluster, a dot, and the number of the clique",
        "all GPUs that have joined a fabric are in one clique",
    ),
    Label("mig.capable", "whether a GPU knows MIG mode: `true` or `false`", "a GPU tells it"),
    Label(
        "mig.strategy",
        "`single` or `mixed`",
        "a GPU is known, and the MIG strategy is not `none`",
    ),
    Label("mps.capable", "whether a GPU is shared by MPS: `true` or `false`"),
    Label(
        "vgpu.present",
        "whether a GPU is virtual (vGPU): `true` or `false`",
        "a GPU or the driver tells it, or the node has no GPU",
    ),
    Label("vgpu.host-driver-version", "driver version of a virtual GPU's host", HOST),
    Label("vgpu.host-driver-branch", "driver branch of a virtual GPU's host", HOST),
    Label(
        "gfd.timestamp",
        "when the settings took effect, in Unix seconds",
        "`flags.gfd.noTimestamp: false` in the configuration file; never from the command `labels`",
    ),
)
OF_GPUS = (
    Label("gpu.product", "model; then `-MIG-<profile>`; then `-SHARED` if shared and not renamed"),
    Label("gpu.count", f"number of {GPUS}"),
    Label(
        "gpu.replicas",
        "replicas of each; 1: not shared; 0: not advertised, or in MIG mode",
    ),
    Label("gpu.sharing-strategy", "`none`, `time-slicing` or `mps`"),
    Label("gpu.memory", "memory of each in MiB", "the driver tells it"),
    Label("gpu.family", "architecture, such as `hopper`, else `undefined`", "the driver tells it"),
    Label("gpu.compute.major", "compute capability, first part", "the driver tells it"),
    Label("gpu.compute.minor", "compute capability, second part", "the driver tells it"),
    Label(f"gpu.{MODEL}.count", "number of GPUs of this model", "there are several models"),
    Label(
        "gpu.healthy-count",
        "how many of `gpu.count` are Healthy",
        "`--node-labels-health`; never from the command `labels`",
    ),
    *(Label(f"gpu.{key}", text, SINGLE) for key, text in ATTRIBUTES.items()),
)
OF_PROFILES = (
    Label(f"mig-{PROFILE}.product", "as `gpu.product`, of the instances of a profile", MIXED),
    Label(f"mig-{PROFILE}.count", "number of instances of the profile on the node", MIXED),
    Label(f"mig-{PROFILE}.replicas", "as `gpu.replicas`", MIXED),
    Label(f"mig-{PROFILE}.sharing-strategy", "as `gpu.sharing-strategy`", MIXED),
    Label(f"mig-{PROFILE}.memory", "memory of an instance in MiB", MIXED),
    *(Label(f"mig-{PROFILE}.{key}", text, MIXED) for key, text in ATTRIBUTES.items()),
)
CATALOGUE = OF_NODE + OF_GPUS + OF_PROFILES


def known(key: str) -> Iterator[Label]:
    """Yield the labels that *key*, without its domain, may be."""
    return (label for label in CATALOGUE if label.pattern.fullmatch(key))
