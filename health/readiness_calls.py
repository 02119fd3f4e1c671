"""Find out whether CUDA can use a GPU that NVML describes well, as a part of its health check.

What a GPU or driver does not support is absent, which is no fault. Any other error, except that the
GPU is lost, is no answer: then it stays as it was.
"""

from collections.abc import Callable
from typing import Any

from health import fabric
from health.nvml import ABSENT, Code, Nvml, NvmlError
from health.readiness import Readiness
from proto.messages import Gpu
from proto.monitor import LicenceRule, ReadinessRules
from proto.reasons import Reason, ReasonKind

CC_ENABLED = 1
"""NVML_CC_SYSTEM_FEATURE_ENABLED: confidential computing is on."""

VGPU = 2
"""NVML_GPU_VIRTUALIZATION_MODE_VGPU: a virtual GPU in a guest."""


def find(nvml: Nvml, handle: object, gpu: Gpu, rules: ReadinessRules) -> Readiness:
    """Ask whether *gpu* can be used; raise NvmlError if it is lost."""
    accepting, cc_unknown = _asked(lambda: _accepts_work(nvml))
    # In MIG mode a GPU uses no NVLink.
    joined = rules.fabric_after and not gpu.mig_enabled
    joining, fabric_unknown = _asked(lambda: _joining(nvml, handle)) if joined else ("", False)
    licensed, licence_unknown = _asked(lambda: _licensed(nvml, handle, gpu))
    unlicensed = licensed is False and rules.licence is LicenceRule.UNHEALTHY
    ailments = {ReasonKind.CC_NOT_READY: accepting is False, ReasonKind.LICENCE: unlicensed}
    unknown = {
        ReasonKind.CC_NOT_READY: cc_unknown,
        ReasonKind.FABRIC: fabric_unknown,
        ReasonKind.LICENCE: licence_unknown and rules.licence is LicenceRule.UNHEALTHY,
    }
    return Readiness(
        ailments=frozenset(Reason(kind) for kind, found in ailments.items() if found),
        unknown=frozenset(kind for kind, found in unknown.items() if found),
        joining=joining or "",
        patience=rules.fabric_after if joining else 0.0,
        licensed=licensed,
    )


def _asked(question: Callable[[], Any]) -> tuple[Any, bool]:
    """Return the answer, None if there is none; and whether that is because a call failed."""
    try:
        return question(), False
    except NvmlError as error:
        if error.code == Code.GPU_IS_LOST:
            raise
        return None, error.code not in ABSENT


def _accepts_work(nvml: Nvml) -> bool:
    """Return whether the GPUs of a confidential virtual machine accept work; True elsewhere.

    After its start they do not, until someone has attested them and set the ready state.
    """
    state = nvml.call("nvmlSystemGetConfComputeState")
    on = state.ccFeature == CC_ENABLED
    return not on or bool(nvml.call("nvmlSystemGetConfComputeGpusReadyState"))


def _joining(nvml: Nvml, handle: object) -> str:
    return fabric.missing(fabric.ask(nvml, handle))


def _licensed(nvml: Nvml, handle: object, gpu: Gpu) -> bool | None:
    """Return whether a virtual GPU has a licence; None: it is none, or needs none."""
    virtual = gpu.facts.virtual
    if virtual is None:
        virtual = nvml.call("nvmlDeviceGetVirtualizationMode", handle) == VGPU
    if not virtual:
        return None
    found = nvml.call("nvmlDeviceGetGridLicensableFeatures_v4", handle)
    features = list(found.gridLicensableFeatures)[: found.licensableFeaturesCount]
    if not found.isGridLicenseSupported or not features:
        return None
    return any(feature.featureState for feature in features)
