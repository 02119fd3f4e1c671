"""The contracts on imports name every file that they are about, also one that comes later."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHARED = {"supervisor.logs"}
"""What the parent process and its children both use."""


def contract(start: str) -> dict[str, Any]:
    """Return the contract whose name begins like this."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (found,) = (one for one in settings["contracts"] if one["name"].startswith(start))
    return dict(found)


def test_every_file_of_the_parent_process_is_kept_from_its_childrens() -> None:
    """A new file in supervisor/ belongs to the parent process, or to a wing of its own."""
    files = {f"supervisor.{path.stem}" for path in (ROOT / "supervisor").glob("*.py")}
    parent = files - SHARED - {"supervisor.__init__"}
    assert parent <= set(contract("The parent process")["source_modules"])
    assert parent <= set(contract("The process that forks")["source_modules"])
    assert parent == set(contract("The exporter and the cluster process")["forbidden_modules"])


def test_every_wing_has_its_place_among_the_others() -> None:
    """A new folder in supervisor/ must say whom it may import."""
    wings = {path.parent.name for path in (ROOT / "supervisor").glob("*/__init__.py")}
    layers = {name for layer in contract("The wings")["layers"] for name in layer.split(" | ")}
    assert wings == layers - {"logs"}
