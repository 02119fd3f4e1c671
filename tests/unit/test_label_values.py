"""The values of labels, whatever the texts are that they come from."""

import pytest
from msgspec import structs

from proto.advertising import Advertised, Advertising, MigStrategy, SharingStrategy
from proto.messages import Inventory
from supervisor.labels.legal import LIMIT, value
from supervisor.labels.machine_labels import MachineFacts
from supervisor.labels.node_labels import labels
from tests.unit.builders import gpu, mig_gpu
from tests.unit.labelled import labels_of, part, rules, twice

LEGAL = {
    "To Be Filled By O.E.M.": "To-Be-Filled-By-O.E.M",
    "": "unknown",
    "-._": "unknown",
    "\u672a\u77e5": "unknown",
    "x" * 200: "x" * 63,
    "y" * 62 + "- z": "y" * 62,
    "_(A)": "A",
}


@pytest.mark.parametrize(("text", "expected"), LEGAL.items())
def test_illegal_values(text: str, expected: str) -> None:
    """A text is cut, trimmed or unknown where Kubernetes would refuse it."""
    assert value(text) == expected
    assert labels_of([gpu()], facts=MachineFacts(text))["gpu.machine"] == expected


def test_a_long_name_keeps_the_end_of_its_product() -> None:
    """Of a long product the model is cut, not what tells of MIG and sharing."""
    long = mig_gpu(0, "1g.10gb", name="N" * 80)
    found = labels_of([long], rules(MigStrategy.SINGLE, twice("nvidia.com/gpu")))
    assert found["gpu.product"] == "N" * 44 + "-MIG-1g.10gb-SHARED"


def test_long_texts_everywhere() -> None:
    """Long models, profiles and driver versions leave room for the rest of keys and values."""
    model, profile, version = "m" * 90, "p" * 90, "9" * 90
    odd = structs.replace(part(1, 0, (1, 1), 10), profile=profile)
    gpus = (gpu(0), gpu(1, name=model, mig_enabled=True, instances=(odd,)))
    shared = Advertised("nvidia.com/small", (odd.uuid,), 2, SharingStrategy.TIME_SLICING)
    found = labels(Inventory(version, gpus), Advertising(MigStrategy.MIXED, (shared,)))
    texts = (*(key.removeprefix("nvidia.com/") for key in found), *found.values())
    assert max(map(len, texts)) == LIMIT
    assert f"nvidia.com/gpu.{'m' * 53}.count" in found
    assert found[f"nvidia.com/mig-{'p' * 42}.product"] == f"{'m' * 25}-MIG-{'p' * 26}-SHARED"
    assert found["nvidia.com/cuda.driver.major"] == version[:LIMIT]


FAMILIES = {
    "1.3": "tesla",
    "2.0": "fermi",
    "3.7": "kepler",
    "5.2": "maxwell",
    "6.1": "pascal",
    "7.0": "volta",
    "7.5": "turing",
    "8.6": "ampere",
    "8.9": "ada-lovelace",
    "9.0": "hopper",
    "10.3": "blackwell",
    "11.0": "blackwell",
    "12.1": "blackwell",
    "13.0": "rubin",
    "4.0": "undefined",
    "14.0": "undefined",
    "0.0": None,
    "-1.-1": None,
    None: None,
}


@pytest.mark.parametrize(("capability", "expected"), FAMILIES.items())
def test_families(capability: str | None, expected: str | None) -> None:
    """The family is that of the compute capability; without one there is no label of it."""
    found = labels_of([gpu(compute_capability=capability)])
    assert found.get("gpu.family") == expected
    assert ("gpu.compute.major" in found) is (expected is not None)
