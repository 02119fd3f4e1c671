"""Decide whether to warn that a container cannot use two of the node's resources together."""

from collections.abc import Collection, Iterable, Mapping

from loguru import logger

from proto.texts import MOST_NAMES
from proto.worker import CDI_STRATEGIES, DeviceListStrategy, ResourcePlan, WorkerSettings
from supervisor.child import Spec


def warn(
    before: Mapping[str, ResourcePlan] | None,
    after: Mapping[str, ResourcePlan],
    workers: Iterable[Spec],
) -> None:
    """Warn when the resources have changed and a container can use only one of them."""
    if before is not None and _kinds(before) == _kinds(after):
        return
    settings = next((s.settings for s in workers if isinstance(s.settings, WorkerSettings)), None)
    if settings is None:
        return
    names = clashing([p.resource for p in after.values()], settings.handout.list_strategies)
    if names:
        logger.warning(
            "a container that requests two resources sees the devices of only one of them",
            resources=names[:MOST_NAMES],
            count=len(names),
        )
    if names := alone(after.values()):
        logger.warning(
            "a container that requests a resource of MPS can use no second resource",
            resources=names[:MOST_NAMES],
            count=len(names),
        )


def _kinds(plans: Mapping[str, ResourcePlan]) -> dict[str, bool]:
    """Return the workers, and whether their devices are shared by MPS."""
    return {name: bool(plan.mps) for name, plan in plans.items()}


def alone(plans: Collection[ResourcePlan]) -> tuple[str, ...]:
    """Return the resources of MPS beside which a container can use no other; empty: none is.

    A client of MPS sees only the device of its daemon, and a container has one daemon's folder:
    of two resources of MPS, the kubelet keeps one of the two values of CUDA_MPS_PIPE_DIRECTORY.
    """
    return tuple(sorted(p.resource for p in plans if p.mps)) if len(plans) > 1 else ()


def clashing(names: Collection[str], strategies: Iterable[DeviceListStrategy]) -> tuple[str, ...]:
    """Return the resources of which a container can use only one; empty: they combine.

    With `envvar`, each resource sets NVIDIA_VISIBLE_DEVICES to its own devices, and the kubelet
    keeps one of the values. The mounts of `volume-mounts` and CDI names add up.
    """
    used = set(strategies)
    if len(names) < 2 or DeviceListStrategy.ENVVAR not in used or used & CDI_STRATEGIES:  # noqa: PLR2004
        return ()
    return tuple(sorted(names))
