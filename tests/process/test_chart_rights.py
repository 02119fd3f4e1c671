"""The table of the pod's rights in docs/security.md, row by row."""

import re
from typing import Any

import pytest

from tests.fakes.helm import CHART, Object, container, newest, pod
from tests.process.chart_cases import LEAST, PRIVILEGED, SYS_ADMIN
from tests.process.chart_sets import RIGHTS

BASE = {
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet/pod-resources",
    "/var/lib/gpu-sharing-plugin",
}
WORDS = {
    "no capability, no_new_privs": LEAST,
    "SYS_ADMIN": SYS_ADMIN,
    "privileged": PRIVILEGED,
    "as above": LEAST,
}
"""What the first words of the column say of a container whose other values are the default."""
BASELINE = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
"""Capabilities that the level baseline allows (kubernetes.io, Pod Security Standards)."""


def rows() -> dict[str, list[str]]:
    """Return the cells of each row of the table, by the first cell."""
    page = (CHART.parents[2] / "docs/security.md").read_text()
    _, _, table = page.partition("| with | container |")
    lines = table.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_each_row_has_its_values() -> None:
    """The table and the values that its rows stand for are in step."""
    assert rows().keys() == RIGHTS.keys()


@pytest.mark.parametrize("row", RIGHTS)
def test_a_row(row: str) -> None:
    """The container has the rights, and the pod the mounts of the host, that the table names."""
    rights, mounts, _ = rows()[row]
    objects = newest().objects(RIGHTS[row])
    assert container(objects)["securityContext"] == WORDS[rights.partition(", with")[0]]
    assert bool(pod(objects).get("hostPID")) == ("process IDs" in rights)
    assert bool(pod(objects).get("hostNetwork")) == ("host's network" in rights)
    named = set(re.findall(r"`([^`]+)`", mounts)) | ({"/d"} if "that folder" in mounts else set())
    assert {path.rpartition("/")[2] for path in of_the_host(objects) - BASE} == {
        path.rpartition("/")[2] for path in named
    }
    assert "/" not in of_the_host(objects)


@pytest.mark.parametrize("row", RIGHTS)
def test_the_level_of_pod_security(row: str) -> None:
    """The last column says whether the level baseline refuses more than the volumes."""
    level = rows()[row][2]
    objects = newest().objects(RIGHTS[row])
    found = refused_by_baseline(pod(objects))
    assert "hostPath" in found
    assert bool(found - {"hostPath"}) == (level == "privileged")


def of_the_host(objects: list[Object]) -> set[str]:
    """Return the folders of the host that the pod mounts."""
    volumes = pod(objects)["volumes"]
    return {volume["hostPath"]["path"] for volume in volumes if "hostPath" in volume}


def refused_by_baseline(spec: dict[str, Any]) -> set[str]:
    """Return the fields for which the level baseline refuses a pod.

    Its other rules are about fields that no pod of ours has.
    """
    found = {"hostPath" for volume in spec["volumes"] if "hostPath" in volume}
    found |= {field for field in ("hostPID", "hostNetwork", "hostIPC") if spec.get(field)}
    context = spec["containers"][0]["securityContext"]
    if context.get("privileged"):
        found.add("privileged")
    if not {*context.get("capabilities", {}).get("add", [])} <= BASELINE:
        found.add("capabilities")
    return found
