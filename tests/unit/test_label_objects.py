"""The objects that carry the node's labels: what is ours, what is others', what is applied."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.cluster import label_objects
from supervisor.cluster.apiserver import ApiServer
from supervisor.cluster.connection import TroubleError
from supervisor.cluster.label_outputs import NodeOutput
from supervisor.labels.schedule import Content
from supervisor.labels.writer import OutputError
from tests.fakes import nodefeature
from tests.fakes.managed_labels import ManagedLabels

A, B, C = (f"nvidia.com/{name}" for name in "abc")
MANAGER = label_objects.MANAGER

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "managedFields", "fieldsV1", "labels", "f:labels", "uid"])
            | st.sampled_from(["f:metadata", "manager", "ownerReferences", "spec", "features"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def node(managed: ManagedLabels) -> dict[str, Any]:
    """Return a node as the API server sends it."""
    metadata = {"name": "n", "uid": "u", "labels": managed.values}
    return {"metadata": {**metadata, "managedFields": managed.fields()}}


def test_only_what_we_applied_is_ours() -> None:
    """Keys that others applied, or nobody, are not ours; a key may be of both."""
    managed = ManagedLabels({C: "3"})
    managed.apply("other", {A: "1"}, force=False)
    managed.apply(MANAGER, {A: "1", B: "2"}, force=False)
    assert label_objects.owned(node(managed)) == {A, B}
    assert label_objects.is_labelled(node(managed), {A: "1", B: "2"})
    for labels in ({A: "1"}, {A: "1", B: "3"}, {A: "1", B: "2", C: "3"}):
        assert not label_objects.is_labelled(node(managed), labels)


def test_another_value_of_another_manager_is_left_alone() -> None:
    """The same value is no contest, and what nobody owns is free."""
    managed = ManagedLabels({C: "3"})
    managed.set(A, "1")
    managed.set(B, "2")
    assert label_objects.held_by_others(node(managed), {A: "1", B: "other", C: "new"}) == {B}


@given(ANYTHING)
@example({"ownerReferences": [{"uid": {}}]})
def test_whatever_the_server_sends(thing: object) -> None:
    """No answer of the server makes these functions fail."""
    found = {"metadata": thing, "spec": thing}
    label_objects.owned(found)
    label_objects.is_labelled(found, {A: "1"})
    label_objects.held_by_others(found, {A: "1"})
    label_objects.node(found, {A: "1"})
    label_objects.owners(found)
    wanted = label_objects.feature("n", "default", [], Content({A: "1"}))
    label_objects.is_featured(found, wanted)


@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True))
def test_the_name_of_the_object_is_legal(name: str) -> None:
    """The name fits into Kubernetes' limit, and ends with a letter or digit."""
    found = label_objects.feature_name(name)
    assert len(found) <= 253
    assert found[-1].isalnum()


def test_long_names_of_two_nodes_differ() -> None:
    """Two nodes whose names differ only at the end have two objects."""
    assert label_objects.feature_name("n" * 252 + "a") != label_objects.feature_name(
        "n" * 252 + "b"
    )


OWNER = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "gpus", "uid": "u1"}
POD = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u2"}


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        ([{**OWNER, "controller": True, "blockOwnerDeletion": True}], [OWNER]),
        ([{**OWNER, "controller": False}], [POD]),
        ([{**POD, "uid": "u9"}, {**OWNER, "controller": True}], [OWNER]),
        ([], [POD]),
        (None, [POD]),
    ],
    ids=["a DaemonSet", "no controller", "a DaemonSet among others", "an empty list", "none"],
)
def test_who_owns_the_object(references: object, expected: list[dict[str, str]]) -> None:
    """It belongs to the pod's controller, without a right to block its deletion, or to the pod."""
    pod = {"metadata": {"name": "p", "uid": "u2", "ownerReferences": references}}
    assert label_objects.owners(pod) == expected
    assert label_objects.owners(None) == []


def test_an_object_that_lost_its_owner_is_written_again() -> None:
    """Labels, facts, node and owners are compared; what the server adds is not."""
    content = Content({A: "1"}, ({"uuid": "x"},))
    wanted = label_objects.feature("n", "default", [OWNER], content)
    added = {**wanted, "metadata": {**wanted["metadata"], "uid": "u", "generation": 3}}
    assert label_objects.is_featured(added, wanted)
    for key in ("ownerReferences", "labels"):
        lacking = {k: v for k, v in wanted["metadata"].items() if k != key}
        assert not label_objects.is_featured({**wanted, "metadata": lacking}, wanted)
    for other in (Content({A: "2"}, content.gpus), Content({A: "1"})):
        assert not label_objects.is_featured(
            label_objects.feature("n", "default", [OWNER], other), wanted
        )


@pytest.mark.parametrize("gpus", [(), ({"uuid": "x", "index": "0"}, {"uuid": "y"})])
def test_the_schema_accepts_the_object(gpus: tuple[dict[str, str], ...]) -> None:
    """NFD's schema has a place for all that we write."""
    made = label_objects.feature("n", "default", [OWNER], Content({A: "1"}, gpus))
    assert nodefeature.problem(made) == ""


@pytest.mark.parametrize(
    "spec",
    [
        {"labels": {A: 1}},
        {"labels": {}, "taints": {}},
        {"features": {"instances": {"nvidia.gpu": {}}}},
        {"features": {"instances": {"nvidia.gpu": {"elements": [{"uuid": "x"}]}}}},
    ],
    ids=["a number", "an unknown field", "no elements", "no attributes"],
)
def test_the_schema_refuses_others(spec: dict[str, Any]) -> None:
    """What the API server would refuse or drop is noticed."""
    made = label_objects.feature("n", "default", [], Content({A: "1"}))
    assert nodefeature.problem({**made, "spec": spec})


class Server(ApiServer):
    """The node on an API server; *taken* are labels that somebody sets after each read."""

    def __init__(self, **taken: str) -> None:
        super().__init__("n")
        self.managed = ManagedLabels({})
        self.taken = {f"nvidia.com/{key}": value for key, value in taken.items()}
        self.applies = 0

    async def read(self, kind: str, name: str) -> dict[str, Any]:
        """Return the node, and then let somebody change it."""
        assert (kind, name) == ("Node", "n")
        found = node(ManagedLabels(dict(self.managed.values)))
        found["metadata"]["managedFields"] = self.managed.fields()
        for key, value in self.taken.items():
            self.managed.set(key, value)
        return found

    async def apply(self, wanted: dict[str, Any], manager: str, *, force: bool = False) -> None:
        """Apply labels, or fail with the conflict."""
        self.applies += 1
        causes = self.managed.apply(manager, wanted["metadata"]["labels"], force=force)
        if causes:
            raise TroubleError("409 conflict", 409, tuple(cause["field"] for cause in causes))


def put(server: Server, labels: dict[str, str]) -> bool:
    """Bring the node on the server in line with *labels*."""
    return asyncio.run(NodeOutput(server, "n").put(Content(labels)))


def test_a_key_that_is_taken_between_read_and_write() -> None:
    """A conflict costs its own keys only: the others are applied at once."""
    server = Server(a="theirs")
    assert put(server, {A: "ours", B: "2"})
    assert server.managed.values == {A: "theirs", B: "2"}
    assert not put(server, {A: "ours", B: "2"})
    assert server.applies == 2


def test_a_key_that_is_no_longer_wanted_goes() -> None:
    """What we no longer apply is removed, and nothing else."""
    server = Server()
    server.managed.set(C, "3")
    put(server, {A: "1", B: "2"})
    put(server, {B: "2"})
    assert server.managed.values == {B: "2", C: "3"}
    put(server, {})
    assert server.managed.values == {C: "3"}


def test_a_conflict_about_something_else_is_a_failure() -> None:
    """A conflict that names no label of ours is not repeated."""

    class Other(Server):
        async def apply(self, wanted: dict[str, Any], manager: str, *, force: bool = False) -> None:
            text = f"409 {wanted['kind']} {manager} {force}: another UID"
            raise TroubleError(text, 409, (".metadata.uid",))

    with pytest.raises(OutputError, match="another UID"):
        put(Other(), {A: "1"})
