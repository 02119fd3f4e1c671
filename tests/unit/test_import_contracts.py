"""The import contracts name every file that they concern, including new files."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHARED = {"supervisor.logs"}
"""Modules that the parent process and its children both use."""

OTHER_TREE = {f"supervisor.mps.{name}" for name in ("applying", "compose", "planned", "simulated")}
"""Modules that only the parent process of the MPS daemons' tree uses."""


def contract(start: str) -> dict[str, Any]:
    """Return the import contract whose name begins with *start*."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (found,) = (entry for entry in settings["contracts"] if entry["name"].startswith(start))
    return dict(found)


def test_contracts_name_every_file_of_the_parent_process() -> None:
    """Each file in supervisor/ is in the contracts of the parent process."""
    files = {f"supervisor.{path.stem}" for path in (ROOT / "supervisor").glob("*.py")}
    parent = (files - SHARED - {"supervisor.__init__"}) | OTHER_TREE
    assert parent <= set(contract("The parent process")["source_modules"])
    assert parent <= set(contract("The process that forks")["source_modules"])
    assert parent == set(contract("The exporter and the cluster process")["forbidden_modules"])


def test_a_contract_names_every_folder_of_the_supervisor() -> None:
    """Each folder in supervisor/ is a layer in the contract of its folders."""
    wings = {path.parent.name for path in (ROOT / "supervisor").glob("*/__init__.py")}
    layers = {name for layer in contract("The wings")["layers"] for name in layer.split(" | ")}
    assert wings == layers - {"logs"}
