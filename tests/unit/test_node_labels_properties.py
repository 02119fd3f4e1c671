"""Any node has legal labels, and the same ones in whatever order its GPUs are listed."""

import re
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proto.advertising import MigStrategy
from proto.facts import Fabric, GpuFacts, HostDriver, MigAttributes
from proto.messages import Gpu, Inventory, MigInstance
from supervisor.labels.catalogue import known
from supervisor.labels.machine_labels import MachineFacts
from supervisor.labels.node_labels import labels
from tests.unit.builders import gpu, gpu_uuid, mig_uuid
from tests.unit.labelled import rules, told, twice

NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
KEY = re.compile(rf"nvidia\.com/{NAME}")
VALUE = re.compile(rf"({NAME})?")
"""Kubernetes' grammar: 63 characters, letters or digits at both ends; a value may be empty."""

FEW = 4
long = st.text(alphabet="Aa0-._ ", min_size=40, max_size=90)
words = (
    st.text(max_size=90) | long | st.sampled_from(["NVIDIA A100", "Tesla T4", "O.E.M.", "unknown"])
)
profiles = (
    st.sampled_from(["1g.10gb", "1g.10gb+me", "1c.3g.40gb", ""]) | st.text(max_size=90) | long
)
numbers = st.none() | st.integers(0, 1 << 40)
attributes = st.none() | st.builds(MigAttributes, *[st.integers(0, 200)] * 8)
facts = st.builds(
    GpuFacts,
    pci_class=numbers,
    mig_capable=st.none() | st.booleans(),
    fabric=st.none() | st.builds(Fabric, words, st.integers(0, 1 << 32), st.booleans()),
    virtual=st.none() | st.booleans(),
    host_driver=st.none() | st.builds(HostDriver, words, words),
)


@st.composite
def nodes(draw: Any) -> list[Gpu]:
    """Draw the GPUs of a node."""
    return [
        gpu(
            place,
            name=draw(words),
            memory_mib=draw(numbers),
            compute_capability=draw(st.none() | st.sampled_from(["8.0", "0.0", "99.99"]) | words),
            mig_enabled=draw(st.booleans()),
            facts=draw(facts),
            instances=tuple(
                MigInstance(
                    mig_uuid(place, n),
                    n,
                    7 + n,
                    0,
                    draw(profiles),
                    draw(numbers),
                    attributes=draw(attributes),
                )
                for n in range(draw(st.integers(0, FEW)))
            ),
        )
        for place in range(draw(st.integers(0, FEW)))
    ]


@dataclass(frozen=True)
class Around:
    """What else the labels depend on."""

    strategy: MigStrategy
    shared: bool
    driver: str
    machine: str
    cuda: int | None


arounds = st.builds(
    Around, st.sampled_from(list(MigStrategy)), st.booleans(), words, words, numbers
)


@given(nodes(), arounds, st.randoms(use_true_random=False))
def test_any_node_has_legal_labels(gpus: list[Gpu], around: Around, random: Any) -> None:
    """Keys and values are legal, sorted, and do not depend on the order of the GPUs."""
    by = rules(around.strategy, twice("nvidia.com/gpu") if around.shared else None)
    healthy = [gpu_uuid(0), mig_uuid(0, 0)]

    def found() -> dict[str, str]:
        node = Inventory(around.driver, tuple(gpus), cuda_version=around.cuda)
        return labels(node, told(gpus, by), MachineFacts(around.machine, 1), healthy)

    first = found()
    for key, text in first.items():
        assert KEY.fullmatch(key), key
        assert VALUE.fullmatch(text), (key, text)
        assert any(known(key.removeprefix("nvidia.com/"))), f"{key} is not in the catalogue"
    assert list(first) == sorted(first)
    random.shuffle(gpus)
    assert list(found().items()) == list(first.items())
