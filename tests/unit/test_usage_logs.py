"""Pods and containers by the names in the kubelet's log folders: only what they confirm counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.exporter.usage_cgroup import UNCLEAR, Location
from supervisor.exporter.usage_logs import LONGEST_LINK, owner, read_names
from supervisor.status.usage_owner import HOST, UNKNOWN, Owner, OwnerKind

UID = "2c48913c-b29f-11e7-9350-020968147796"
ID, OTHER = "9b" * 32, "7c" * 32
POD = f"ml_train-0_{UID}"
LINK = f"train-0_ml_main-{ID}.log"
FOLDERS = read_names([POD], [LINK])
TRAIN = Owner(OwnerKind.CONTAINER, "ml", "train-0", "main")
TRAIN_POD = Owner(OwnerKind.CONTAINER, "ml", "train-0", "")


@pytest.mark.parametrize(
    ("location", "whose"),
    [
        (None, HOST),
        (Location(UID, ID), TRAIN),
        (Location(UID, OTHER), TRAIN_POD),
        (Location(UID, ""), TRAIN_POD),
        (Location("", ID), TRAIN),
        (Location("", OTHER), UNKNOWN),
        (Location(UID[:-1], ID), UNKNOWN),
        (Location("*", ID), UNKNOWN),
        (Location("..", ID), UNKNOWN),
        (UNCLEAR, UNKNOWN),
    ],
)
def test_whose_a_process_is(location: Location | None, whose: Owner) -> None:
    """A process belongs to the pod with exactly this UID, and to the container with this ID."""
    assert owner(location, FOLDERS) == whose


def test_a_pod_without_a_link() -> None:
    """Before the kubelet has linked the log, the pod is known, but not the container."""
    assert owner(Location(UID, ID), read_names([POD], [])) == TRAIN_POD


def test_a_link_without_a_folder() -> None:
    """The link of a container confirms no pod whose own folder is missing."""
    assert owner(Location(UID, ID), read_names([], [LINK])) == UNKNOWN
    assert owner(Location("", ID), read_names([], [LINK])) == UNKNOWN


def test_a_link_of_another_pod() -> None:
    """A container's ID gives the name of its own pod's container only."""
    folders = read_names([POD, "ml_other_0f"], [f"other_ml_main-{ID}.log"])
    assert owner(Location(UID, ID), folders) == TRAIN_POD


def test_a_uid_that_two_folders_have() -> None:
    """A UID that two folders have confirms neither."""
    folders = read_names([POD, f"ml_other_{UID}"], [LINK])
    assert owner(Location(UID, ID), folders) == UNKNOWN


@pytest.mark.parametrize(
    "name",
    [
        f"ml_train-0_{UID}_x",
        f"ml_train-0_{UID}/..",
        f"ml_train-0_{UID}\n",
        f"ML_train-0_{UID}",
        f"ml_train 0_{UID}",
        f"_train-0_{UID}",
        f"ml_{UID}",
        "ml_train-0_*",
        "ml_train-0_..",
        "",
    ],
)
def test_folders_that_are_no_pods(name: str) -> None:
    """A folder with another kind of name is skipped."""
    assert read_names([name], []).pods == {}


@pytest.mark.parametrize(
    "name",
    [
        f"train-0_ml_main-{ID}",
        f"train-0_ml_main-{ID[:-1]}.log",
        f"train-0_ml_main-{ID}a.log",
        f"train-0_ml_main-{ID.upper()}.log",
        f"train-0_ml_main_{ID}.log",
        f"train-0_ml_-{ID}.log",
        "train-0_ml_main.log",
    ],
)
def test_links_that_are_no_containers(name: str) -> None:
    """A link with another kind of name is skipped, also one whose ID is not whole."""
    assert read_names([], [name]).containers == {}


def test_container_names_with_dashes_and_digits() -> None:
    """The ID is what follows the last dash."""
    link = f"train-0_ml_side-car-{'a1' * 8}-{ID}.log"
    assert read_names([], [link]).containers == {("ml", "train-0"): ((ID, f"side-car-{'a1' * 8}"),)}


def cut(pod: str, container: str, identity: str) -> str:
    """Return the kubelet's link for a container; it cuts names that are too long."""
    return f"{pod}_ml_{container}-{identity}"[: LONGEST_LINK - 4] + ".log"


def test_the_link_of_a_pod_with_a_long_name() -> None:
    """An ID that the kubelet has cut still identifies a container of the same pod."""
    pod = "p" * 200
    folders = read_names([f"ml_{pod}_{UID}"], [cut(pod, "main", ID), cut(pod, "side", OTHER)])
    assert owner(Location(UID, ID), folders) == Owner(OwnerKind.CONTAINER, "ml", pod, "main")
    assert owner(Location(UID, OTHER), folders) == Owner(OwnerKind.CONTAINER, "ml", pod, "side")
    assert owner(Location("", ID), folders) == UNKNOWN  # a cut ID confirms no pod


def test_a_cut_link_that_imitates_another_container() -> None:
    """A pod whose cut link ends like the ID of another pod's container changes nothing there."""
    container = f"x-{ID[:20]}"
    pod = "p" * (LONGEST_LINK - 4 - len(f"_ml_{container}"))
    imitation = cut(pod, container, OTHER)
    assert imitation.endswith(f"-{ID[:20]}.log")
    folders = read_names([POD, f"ml_{pod}_0f"], [LINK, imitation])
    assert owner(Location(UID, ID), folders) == TRAIN
    assert owner(Location("", ID), folders) == TRAIN


@given(st.lists(st.text()), st.lists(st.text()), st.text(), st.text())
def test_any_names(pods: list[str], links: list[str], uid: str, identity: str) -> None:
    """Any other names in the folders neither confirm anything nor hide what is there."""
    folders = read_names([*pods, POD], [*links, LINK])
    assert owner(Location(UID, ID), folders) == TRAIN
    if uid and uid != UID:
        assert owner(Location(uid, identity), read_names([POD], [LINK])) == UNKNOWN
