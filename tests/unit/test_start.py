"""What a start imports before it forks."""

import json
import subprocess
import sys

SCRIPT = """
import dataclasses, inspect, json, sys
import supervisor.main
from supervisor import preload

preload.preload(preload.{tree}, api_client=False)
ours = {{"health", "proto", "simulator", "supervisor", "workers"}}
modules = [m for name, m in sys.modules.items() if name.split(".")[0] in ours]
found = {{c for m in modules for c in vars(m).values() if inspect.isclass(c)}}
slow = [f"{{c.__module__}}.{{c.__name__}}" for c in found if dataclasses.is_dataclass(c)]
print(json.dumps({{"modules": sorted(sys.modules), "dataclasses": sorted(slow)}}))
"""


def imported(tree: str) -> dict[str, list[str]]:
    """Return what a start of the *tree* has imported when it forks."""
    script = SCRIPT.format(tree=tree)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found
