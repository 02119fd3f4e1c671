"""Log what a new plan changes, and what the node cannot be served with, once until it changes."""

from collections.abc import Sequence

from loguru import logger

from proto.platform import Platform
from supervisor import two_resources
from supervisor.child import Spec
from supervisor.plan import Plan
from supervisor.state import Served


def tell_resources(before: Served, after: Served, workers: Sequence[Spec]) -> None:
    """Log which resources are gone, and what is odd about those that are left."""
    plans = after.plans or {}
    two_resources.warn(before.plans, plans, workers)
    if not plans:
        logger.warning("no devices to advertise")
    for name in (before.plans or {}).keys() - plans.keys():
        logger.info("resource removed, stopping its worker", child=name)


def tell_platform(before: Served, platform: Platform | None) -> None:
    """Log what kind of node this is, unless that was known *before*; None: not known now."""
    if platform and platform != before.platform:
        evidence = "; ".join(platform.evidence)
        logger.info("looked for the platform", platform=platform.kind, evidence=evidence)


def tell(before: Served, plan: Plan, platform: Platform | None) -> None:
    """Log the platform, problems and notices of *plan* that the service did not have *before*."""
    tell_platform(before, platform)
    for new in [problem for problem in plan.problems if problem not in before.problems]:
        level = "ERROR" if new.fatal else "WARNING"
        logger.log(level, "cannot serve as configured", problem=new.kind, reason=new.text)
    for notice in [notice for notice in plan.notices if notice not in before.notices]:
        logger.info("a setting has no effect on this node", reason=notice)
