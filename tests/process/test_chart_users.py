"""Values files as users of NVIDIA's chart have them render what the docs say."""

import re
from pathlib import Path

import pytest

from tests.fakes.helm import CHART, newest
from tests.process.chart_users import EXPECTED, FOLDER, values

MIGRATION = CHART.parents[2] / "docs/migration.md"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_users_values(name: str) -> None:
    """The objects have what the table in docs/migration.md says beside NVIDIA's chart."""
    objects = newest().objects(values(name))
    for number, (look, expected) in enumerate(EXPECTED[name]):
        assert look(objects) == expected, number


def test_each_file_has_a_row() -> None:
    """The files, the expectations and the table in docs/migration.md are in step."""
    files = {path.stem for path in Path(FOLDER).glob("*.yaml")}
    rows = re.findall(
        r"^\| \[([\w-]+)\]\(\.\./tests/values/\1\.yaml\)", MIGRATION.read_text(), re.MULTILINE
    )
    assert files == EXPECTED.keys() == set(rows)
