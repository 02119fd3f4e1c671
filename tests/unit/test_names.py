"""One name for one thing: no two classes of the product have the same name."""

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervisor", "workers", "health", "proto", "simulator")
CLASS = re.compile(r"^\s*class (\w+)[(:]", re.MULTILINE)


def test_every_class_has_a_name_of_its_own() -> None:
    """A reader who searches for a class finds one definition, also across packages."""
    found = defaultdict(list)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "_pb2" in path.name:
                continue
            for name in CLASS.findall(path.read_text()):
                found[name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}
    assert "NodeState" in found
