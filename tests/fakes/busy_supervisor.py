"""A supervisor whose children are those of noisy.py, and whose plans take long to make.

Arguments: the runtime folder, the seconds of work for each plan, then NAME=HABIT for each child.
"""

import sys
import time

from msgspec.structs import replace

from proto.messages import Inventory
from supervisor import logs, loop, turns
from supervisor.child import Spec
from supervisor.compose import compose as composer
from supervisor.maintenance import MONITOR, Maintenance
from supervisor.plan import Plan
from supervisor.restart_policy import Limits
from supervisor.source import source
from supervisor.state import Service, ServiceSource

SILENCE = 6.0
"""Seconds without a heartbeat until a child is killed."""


def main(folder: str, work: float, *children: str) -> int:
    """Run until SIGTERM."""
    logs.set_up("supervisor", logs.Format.JSON, logs.Level.INFO)
    paths = ("runtimeDir", "stateDir", "devicePluginPath")
    flags = {f"service.{path}": folder for path in paths} | {"service.logFormat": "json"}
    real = source(flags, {}, composer)
    turns.STALL = 0.2  # so that a plan makes a turn as long as one that looks like a standstill
    specs = tuple(_spec(*child.split("=")) for child in children)

    def plan(_: Inventory) -> Plan:
        until = time.process_time() + work
        while time.process_time() < until:
            pass
        return Plan(())

    def compose(data: bytes) -> Service:
        service = replace(real.compose(data), children=specs, plan=plan, fail_on_init_error=False)
        return replace(service, limits=Limits(silence=SILENCE))

    return loop.Supervisor(ServiceSource(real.read, compose), Maintenance()).run()


def _spec(name: str, habit: str) -> Spec:
    return Spec(name, "tests.fakes.noisy", habit, essential=name == MONITOR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:]))
