"""The schema of NFD's NodeFeature objects: checks an object as the API server would, and stricter.

The API server drops what the schema lacks, without a word. That of the e2e tests gets the same one.
"""

from pathlib import Path
from typing import Any

import jsonschema  # comes with kubernetes-validate
import yaml

DEFINITION = Path(__file__).with_suffix(".yaml")


def _strict(schema: Any) -> Any:
    """Return *schema* so that it refuses what the API server would silently drop."""
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    if "properties" in found:
        found["additionalProperties"] = False
    return found


def schema() -> dict[str, Any]:
    """Return the schema of the kind's only version."""
    definition = yaml.safe_load(DEFINITION.read_text())
    (version,) = definition["spec"]["versions"]
    found: dict[str, Any] = _strict(version["schema"]["openAPIV3Schema"])
    return found


def problem(thing: dict[str, Any]) -> str:
    """Return why the API server would refuse *thing*, or drop a part; empty: it takes all of it."""
    errors = jsonschema.Draft7Validator(schema()).iter_errors(thing)
    return "; ".join(f"{error.json_path}: {error.message}" for error in errors)
