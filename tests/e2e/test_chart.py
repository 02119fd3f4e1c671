"""The chart on a real API server: the commands of a cluster's operator, and their effect."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from supervisor.cluster import node_taint
from tests.e2e.apiserver import ApiServer
from tests.fakes.helm import BINARIES, CHART, Helm, helms
from tests.process import chart_distributions, chart_users
from tests.process.chart_sets import SERVED

pytestmark = pytest.mark.e2e

OURS = "--selector=app.kubernetes.io/name=gpu-sharing-plugin"
KINDS = "daemonsets,serviceaccounts,configmaps,services,clusterroles,clusterrolebindings"
RESOURCE = "nvidia.com/gpu"


class Cluster:
    """An API server, and a Helm that uses it."""

    def __init__(self, server: ApiServer, helm: Helm) -> None:
        self.server = server
        self._helm = helm

    def helm(self, *arguments: str) -> str:
        """Run Helm and return its output; the test fails if Helm does."""
        result = self.try_helm(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def try_helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Helm on this cluster; it may fail."""
        return self._helm.run(*arguments, f"--kubeconfig={self.server.kubeconfig}")

    def ours(self) -> set[str]:
        """Return the kind and name of each object of the chart, in all namespaces."""
        objects = self.server.get(KINDS, OURS, "--all-namespaces")
        return {f"{item['kind']}/{item['metadata']['name']}" for item in objects}


@pytest.fixture(params=BINARIES)
def cluster(server: ApiServer, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Give each test a cluster without releases, once for each version of Helm."""
    (helm,) = [helm for helm in helms() if helm.binary.endswith(request.param)]
    cluster = Cluster(server, helm)
    yield cluster
    for namespace in ("one", "two"):
        for release in cluster.helm("list", "--short", f"--namespace={namespace}").split():
            cluster.helm("uninstall", release, f"--namespace={namespace}")
    assert cluster.ours() == set()


def install(release: str, namespace: str, *values: str) -> list[str]:
    """Return the arguments of Helm that install or upgrade the chart."""
    place = [f"--namespace={namespace}", "--create-namespace"]
    return [
        "upgrade",
        "--install",
        release,
        str(CHART),
        *place,
        *(f"--set={value}" for value in values),
    ]


def test_install_upgrade_rollback_and_uninstall(cluster: Cluster) -> None:
    """A release is installed, upgraded with its values, rolled back, and uninstalled completely."""
    plain = {"DaemonSet/gpus-gpu-sharing-plugin", "ServiceAccount/gpus-gpu-sharing-plugin"}
    cluster.helm(*install("gpus", "one", "resourceConfig=gpu:shared:4"))
    assert cluster.ours() == plain
    more = ("events.enabled=true", "metrics.service.enabled=true")
    arguments = ["--reset-then-reuse-values", *(f"--set={value}" for value in more)]
    cluster.helm("upgrade", "gpus", str(CHART), "--namespace=one", *arguments)
    assert {item.partition("/")[0] for item in cluster.ours()} >= {"ClusterRole", "Service"}
    assert {"NVIDIA_DRIVER_RESOURCE_CONFIG", "NODE_EVENTS"} <= variables(cluster)
    cluster.helm("rollback", "gpus", "1", "--namespace=one")
    assert cluster.ours() == plain
    assert "NODE_EVENTS" not in variables(cluster)
    cluster.helm("uninstall", "gpus", "--namespace=one")
    assert cluster.ours() == set()


def test_releases_run_side_by_side(cluster: Cluster) -> None:
    """Releases with different names or namespaces run side by side; uninstalling one keeps the
    others.
    """
    places = [("gpus", "one"), ("shared", "one"), ("gpus", "two")]
    for release, namespace in places:
        cluster.helm(*install(release, namespace, "events.enabled=true"))
    daemon_sets = cluster.server.get("daemonsets", OURS, "--all-namespaces")
    assert len(daemon_sets) == len(places)
    roles = {role["metadata"]["name"] for role in cluster.server.get("clusterroles", OURS)}
    assert len(roles) == len(places)
    cluster.helm("uninstall", "gpus", "--namespace=two")
    assert len(cluster.server.get("clusterroles", OURS)) == len(places) - 1


def test_the_selector_cannot_be_changed(cluster: Cluster) -> None:
    """The server refuses a changed selector, as the page about upgrades says, and the release
    stays.
    """
    cluster.helm(*install("gpus", "one", "fullnameOverride=gpus"))
    result = cluster.try_helm(*install("gpus", "one", "fullnameOverride=gpus", "nameOverride=a"))
    assert result.returncode != 0
    assert "field is immutable" in result.stderr
    assert "DaemonSet/gpus" in cluster.ours()


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("events.enabled=true", {"get nodes", "create events", "patch events"}),
        ("nodeCondition.enabled=true", {"get nodes", "patch nodes/status"}),
        ("config.name=configs", {"get nodes", "watch nodes"}),
        ("nodeLabels.output=node", {"get nodes", "patch nodes"}),
        ("nodeLabels.output=nodefeature", set()),
        ("nodeLabels.output=file", set()),
        ("logLevel=debug", set()),
    ],
)
def test_the_server_grants_only_the_needed_rights(
    cluster: Cluster, value: str, allowed: set[str]
) -> None:
    """The pod's account may do what the enabled feature needs, and nothing else asked here."""
    cluster.helm(*install("gpus", "one", value))
    account = "--as=system:serviceaccount:one:gpus-gpu-sharing-plugin"
    asked = {"patch nodes", "delete nodes", "get secrets", "list pods", "patch nodes/status"}
    for question in asked | {"create events"} | allowed:
        verb, resource = question.split()
        resource, *subresource = resource.split("/")
        flags = [f"--subresource={name}" for name in subresource]
        command = ["auth", "can-i", verb, resource, account, "--all-namespaces", *flags]
        try:
            answer = cluster.server.kubectl(*command)
        except subprocess.CalledProcessError as error:  # "no" is its exit code 1
            answer = error.stdout
        assert answer.strip() == ("yes" if question in allowed else "no"), question


@pytest.mark.parametrize("values", SERVED.values(), ids=SERVED)
def test_the_server_accepts_every_object(
    server: ApiServer, values: dict[str, Any], tmp_path: Path
) -> None:
    """A server-side dry run, which checks more than the schema, accepts every object."""
    objects = helms()[-1].objects(values, namespace="kube-system", release="r")
    known = [item for item in objects if "monitoring.coreos.com" not in item["apiVersion"]]
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(known))
    made = server.kubectl("create", "--dry-run=server", f"--filename={tmp_path}/objects.yaml")
    assert made.count("created (server dry run)") == len(known)


def test_the_server_accepts_the_example_pods(server: ApiServer, tmp_path: Path) -> None:
    """The pods in deploy/examples are valid for the oldest API server that we support."""
    folder, space = CHART.parents[1] / "examples", "--namespace=examples"
    # Without controllers there is no account, without which the server admits no pod.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    file = tmp_path / "account.yaml"
    file.write_text(yaml.safe_dump(account | {"automountServiceAccountToken": False}))
    server.kubectl("create", "namespace", "examples")
    server.kubectl("create", f"--filename={file}", space)
    made = server.kubectl("create", "--dry-run=server", f"--filename={folder}", space)
    assert made.count("created (server dry run)") == len(list(folder.glob("*.yaml")))


@pytest.mark.parametrize("name", chart_users.EXPECTED)
def test_a_users_values(server: ApiServer, name: str) -> None:
    """Helm installs each values file, and what the API server then has is what the table in
    docs/migration.md says beside NVIDIA's chart.
    """
    found = installed(server, chart_users.FOLDER / f"{name}.yaml")
    assert all(look(found) == expected for look, expected in chart_users.EXPECTED[name])


@pytest.mark.parametrize("name", chart_distributions.EXPECTED)
def test_a_distributions_values(server: ApiServer, name: str) -> None:
    """Helm installs the values of each distribution, and the API server then has what it needs."""
    found = installed(server, chart_distributions.FOLDER / f"{name}.yaml")
    assert all(look(found) == expected for look, expected in chart_distributions.EXPECTED[name])


def installed(server: ApiServer, values: Path) -> list[dict[str, Any]]:
    """Return what the API server has of a release with the file *values*, and uninstall it."""
    cluster = Cluster(server, helms()[-1])
    cluster.helm(*install("gpus", "one"), f"--values={values}")
    try:
        return stored(server)
    finally:
        cluster.helm("uninstall", "gpus", "--namespace=one")


def stored(server: ApiServer) -> list[dict[str, Any]]:
    """Return the objects of the release that the API server has."""
    kinds = f"{KINDS},roles,rolebindings"
    return server.get(kinds, "--selector=app.kubernetes.io/managed-by=Helm", "--all-namespaces")


def test_the_commands_of_the_helm_page_work(server: ApiServer) -> None:
    """The kubectl commands of the page work; the last ones remove a node's stale resources, and the
    taint that the plugin has left.
    """
    stale = {key: {RESOURCE: "0"} for key in ("capacity", "allocatable")}
    with server.node("stale", stale) as shown:
        server.kubectl("taint", "node", "stale", f"{node_taint.KEY}=lost:{node_taint.EFFECT}")
        assert shown()["status"]["capacity"] == {RESOURCE: "0"}
        for words in kubectl_of_the_page():
            server.kubectl(*("stale" if word == "NODE" else word for word in words))
        found = shown()
    assert found["metadata"]["labels"]["nvidia.com/device-plugin.config"] == "shared"
    assert not found["status"].get("capacity")
    assert not found["status"].get("allocatable")
    assert node_taint.KEY not in {taint["key"] for taint in found["spec"].get("taints", ())}


def kubectl_of_the_page() -> Iterator[list[str]]:
    """Yield the arguments of each kubectl command in the page that needs no controller."""
    page = (CHART.parents[2] / "docs/install-helm.md").read_text()
    for block in re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        command = ""
        for line in block.replace("\\\n", " ").splitlines():
            command += line
            if command.count("'") % 2:
                continue
            words, command = shlex.split(command), ""
            if words[0] == "kubectl" and "rollout" not in words:
                yield words[1:]


def variables(cluster: Cluster) -> set[str]:
    """Return the names of the container's environment variables."""
    (daemon_set,) = cluster.server.get("daemonsets", OURS, "--all-namespaces")
    (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
    return {variable["name"] for variable in container["env"]}
