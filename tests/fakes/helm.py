"""The chart as real Helm 3 and Helm 4 render it, without a cluster."""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "deploy/helm/gpu-sharing-plugin"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpu-sharing-plugin"
BINARIES = ("helm-3.17.2", "helm-4.3.1")
"""The names that scripts/fetch-helm gives, newest last."""

PATIENCE = 60

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """A Helm binary."""

    binary: str

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run Helm with *text* as its standard input, and without a home folder.

        Its Go runtime collects no garbage, which saves a sixth of the processor time.
        """
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GOGC": "off"}
        command = [self.binary, *arguments]
        return subprocess.run(
            command,
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def template(
        self,
        values: Mapping[str, Any] | None = None,
        *arguments: str,
        release: str = "gpus",
        namespace: str = "gpu-nodes",
        chart: Path = CHART,
    ) -> subprocess.CompletedProcess[str]:
        """Render the chart; *values* override the chart's values."""
        place = [release, str(chart), f"--namespace={namespace}", "--values=-"]
        run = _once if chart == CHART else Helm.run  # a test may change a chart of its own
        return run(self, "template", *place, *arguments, text=json.dumps(values or {}))

    def objects(
        self, values: Mapping[str, Any] | None = None, *arguments: str, **place: Any
    ) -> list[Object]:
        """Return the objects that the chart renders with these values."""
        result = self.template(values, *arguments, **place)
        assert result.returncode == 0, result.stderr
        assert not result.stderr
        loaded = yaml.load_all(result.stdout, yaml.CSafeLoader)
        return [rendered for rendered in loaded if rendered]

    def refusal(self, values: Mapping[str, Any], **place: Any) -> str:
        """Return Helm's error for values that it refuses to render."""
        result = self.template(values, **place)
        assert result.returncode != 0, "it was not refused"
        return result.stderr


_once = functools.cache(Helm.run)
"""The same run twice has the same result, and many tests render the same values."""


def helms() -> list[Helm]:
    """Return the Helm binaries of this machine, newest last."""
    found = [str(CACHE / name) for name in BINARIES if (CACHE / name).exists()]
    on_path = shutil.which("helm")
    return [Helm(binary) for binary in found or filter(None, [on_path])]


def newest() -> Helm:
    """Return the newest Helm of this machine; skip the test if there is none."""
    found = helms()
    if not found:
        pytest.skip("no Helm: run scripts/fetch-helm, or put helm on PATH")
    return found[-1]


def named(binary: str) -> Helm:
    """Return the Helm with this name; skip the test if it is missing."""
    found = [helm for helm in helms() if helm.binary.endswith(binary)]
    if not found:
        pytest.skip(f"no {binary}: run scripts/fetch-helm")
    return found[0]


def the(objects: list[Object], kind: str) -> Object:
    """Return the only object of its *kind*; of two DaemonSets, the plugin's."""
    found = [rendered for rendered in objects if rendered["kind"] == kind]
    (only,) = [rendered for rendered in found if not is_for_mps(rendered)] or found
    return only


def is_for_mps(rendered: Object) -> bool:
    """Return whether the object is of the service that keeps the MPS daemons."""
    labels = rendered["metadata"].get("labels", {})
    return bool(labels.get("app.kubernetes.io/component") == "mps")


def for_mps(objects: list[Object]) -> list[Object]:
    """Return the objects of the service that keeps the MPS daemons."""
    return [rendered for rendered in objects if is_for_mps(rendered)]


def pod(objects: list[Object]) -> Object:
    """Return the specification of the DaemonSet's pods."""
    found: Object = the(objects, "DaemonSet")["spec"]["template"]["spec"]
    return found


def container(objects: list[Object]) -> Object:
    """Return the DaemonSet's container."""
    (found,) = pod(objects)["containers"]
    assert isinstance(found, dict)
    return found


def environment(objects: list[Object]) -> dict[str, str]:
    """Return the container's variables that have a value; fail if a name comes twice."""
    given = container(objects).get("env", [])
    names = [variable["name"] for variable in given]
    assert len(names) == len(set(names)), names
    return {variable["name"]: variable["value"] for variable in given if "value" in variable}


def mounts(objects: list[Object]) -> dict[str, tuple[str, Object]]:
    """Return each mount's kind of volume and its source, by the path in the container."""
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    found = {}
    for mount in container(objects)["volumeMounts"]:
        ((kind, source),) = [
            (kind, source) for kind, source in volumes[mount["name"]].items() if kind != "name"
        ]
        found[mount["mountPath"]] = (kind, source | {"readOnly": mount.get("readOnly", False)})
    return found
