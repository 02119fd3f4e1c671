"""Log what the node cannot be served with, once until it changes."""

from loguru import logger

from supervisor.plan import Plan
from supervisor.state import Served


def tell(before: Served, plan: Plan) -> None:
    """Log the problems and notices of *plan* that the service did not have *before*."""
    for new in [problem for problem in plan.problems if problem not in before.problems]:
        level = "ERROR" if new.fatal else "WARNING"
        logger.log(level, "cannot serve as configured", problem=new.kind, reason=new.text)
    for notice in [notice for notice in plan.notices if notice not in before.notices]:
        logger.info("a setting has no effect on this node", reason=notice)
