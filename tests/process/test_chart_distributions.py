"""The values of each distribution of Kubernetes, and the page about them."""

import re

import pytest

from tests.fakes.helm import CHART, newest
from tests.process.chart_distributions import EXPECTED, FOLDER, values

PAGE = (CHART.parents[2] / "docs/kubernetes-distributions.md").read_text()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_values_of_a_distribution(name: str) -> None:
    """The objects have what the distribution needs."""
    objects = newest().objects(values(name))
    for number, (look, expected) in enumerate(EXPECTED[name]):
        assert look(objects) == expected, number


def test_each_file_has_a_section_and_a_command() -> None:
    """Each file is in the page's table and in a command there."""
    files = {path.stem for path in FOLDER.glob("*.yaml")}
    assert files == EXPECTED.keys()
    assert files == set(re.findall(r"\| \[([\w-]+)\.yaml\]\(\.\./deploy/helm/distributions/", PAGE))
    assert files == set(re.findall(r"--values deploy/helm/distributions/([\w-]+)\.yaml", PAGE))


def test_the_links_of_the_table_lead_to_sections() -> None:
    """Each distribution in the table links to its section."""
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors


def test_no_distribution_is_privileged_without_need() -> None:
    """Only GKE, where CDI is the only way to the devices, has a privileged container."""
    found = {
        name
        for name in EXPECTED
        for item in newest().objects(values(name))
        if item["kind"] == "DaemonSet"
        and item["spec"]["template"]["spec"]["containers"][0]["securityContext"].get("privileged")
    }
    assert found == {"gke"}
