"""Run the service with the kernel's files below other folders: SYSFS PROCFS COMMAND...

What the service reads of the kernel is fixed in real life, so no flag names it.
"""

import sys
from pathlib import Path
from unittest import mock

from msgspec.structs import replace

from proto.monitor import MonitorSettings
from proto.paths import Paths
from supervisor import compose, main
from supervisor.compose_monitor import monitor_settings
from supervisor.config.settings import Settings


def run(sysfs: str, procfs: str, arguments: list[str]) -> int:
    """Run the service, and return its exit code."""

    def rooted(settings: Settings, paths: Paths) -> MonitorSettings:
        return replace(monitor_settings(settings, paths), sysfs=sysfs, procfs=procfs)

    with mock.patch.object(compose, "monitor_settings", rooted):
        return main.main(arguments)


def command(sysfs: Path, procfs: Path) -> tuple[str, ...]:
    """Return what stands before the service's own command."""
    return (sys.executable, "-m", "tests.fakes.rooted", str(sysfs), str(procfs))


if __name__ == "__main__":
    words = sys.argv[3:]
    sys.exit(run(sys.argv[1], sys.argv[2], words[words.index("supervisor") + 1 :]))
