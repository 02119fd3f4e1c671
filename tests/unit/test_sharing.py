"""The syntax of sharing in `--resource-config` and in `sharing.timeSlicing`."""

from pathlib import Path

import pytest

from supervisor.config.settings import load
from supervisor.config.sharing import BY_MEMORY, Share
from tests.unit.refusal import message

GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
LONG = "n" * 53
NO_NAME = (
    "is not a resource name; after nvidia.com/ write lower-case letters, digits, '-' and '.', "
    "and begin and end with a letter or digit"
)


def entries(*entries: str, more: str = "") -> str:
    """Return the text of a configuration file with these entries of timeSlicing."""
    return f"sharing: {{timeSlicing: {{{more}resources: [{', '.join(entries)}]}}}}"


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("gpu:shared:4", {GPU: Share("nvidia.com/shared", 4)}),
        ("gpu:gpu:-1", {GPU: Share(GPU, BY_MEMORY)}),
        (
            " gpu:a.b-c:1 , mig-1g.10gb:slice:2,",
            {GPU: Share("nvidia.com/a.b-c", 1), SLICE: Share("nvidia.com/slice", 2)},
        ),
        (f"gpu:{'n' * 52}:1", {GPU: Share(f"nvidia.com/{'n' * 52}", 1)}),
        ("nvidia.com/gpu:nvidia.com/shared:2", {GPU: Share("nvidia.com/shared", 2)}),
        ("gpu:a:69905", {GPU: Share("nvidia.com/a", 69905)}),
        (" , ", {}),
        ("", {}),
    ],
    ids=[
        "renamed",
        "by memory",
        "several",
        "longest name",
        "with domain",
        "most replicas",
        "nothing but a comma",
        "nothing",
    ],
)
def test_resource_config(text: str, shares: dict[str, Share]) -> None:
    """Each ORIGINAL:NEW:REPLICAS shares a resource; blanks and a last comma are ignored."""
    expected = {resource: (share,) for resource, share in shares.items()}
    assert load({"service.resourceConfig": text}, {}).shares == expected
    assert load({}, {"NVIDIA_DRIVER_RESOURCE_CONFIG": text}).shares == expected


SYNTAX = "write ORIGINAL:NEW:REPLICAS"
NO_COUNT = "write 1 to 69905 replicas, or -1 for one replica per 1000 MiB of a device's memory"
BAD_FLAGS = {
    "no name": ("gpu", SYNTAX),
    "no replicas": ("gpu:shared", SYNTAX),
    "too many parts": ("nvidia.com:gpu:shared:2", SYNTAX),
    "upper case": ("gpu:Shared:2", f'"nvidia.com/Shared" {NO_NAME}'),
    "upper case of the original": ("GPU:shared:2", f'"nvidia.com/GPU" {NO_NAME}'),
    "an empty name": ("gpu::2", f'"nvidia.com/" {NO_NAME}'),
    "an empty original": (":shared:2", f'"nvidia.com/" {NO_NAME}'),
    "a dash first": ("gpu:-shared:2", f'"nvidia.com/-shared" {NO_NAME}'),
    "a dot last": ("gpu:shared.:2", f'"nvidia.com/shared." {NO_NAME}'),
    "a blank inside": ("gpu: shared:2", f'"nvidia.com/ shared" {NO_NAME}'),
    "a foreign domain": ("gpu:a.example/gpu:2", f'"nvidia.com/a.example/gpu" {NO_NAME}'),
    "64 characters": (
        f"gpu:{LONG}:2",
        f'"nvidia.com/{LONG}" has 64 characters; write at most 63',
    ),
    "no replica": ("gpu:shared:0", NO_COUNT),
    "less than none": ("gpu:shared:-2", NO_COUNT),
    "too many": ("gpu:shared:69906", NO_COUNT),
    "a fraction": ("gpu:shared:1.5", NO_COUNT),
    "a sign": ("gpu:shared:+2", NO_COUNT),
    "a zero in front": ("gpu:shared:02", NO_COUNT),
    "a word": ("gpu:shared:all", NO_COUNT),
    "an empty number": ("gpu:shared:", NO_COUNT),
}


@pytest.mark.parametrize(("entry", "problem"), BAD_FLAGS.values(), ids=BAD_FLAGS)
def test_a_bad_resource_config(entry: str, problem: str) -> None:
    """The error for --resource-config names the bad entry only."""
    expected = f'cannot use --resource-config "{entry}": {problem}'
    assert message({"service.resourceConfig": f"gpu:good:1,{entry}"}, {}) == expected


def shares(folder: Path, content: str) -> dict[str, tuple[Share, ...]]:
    """Return the shares of a configuration file."""
    path = folder / "config.yaml"
    path.write_text(content)
    return dict(load({"service.configFile": str(path)}, {}).shares)


ONE = "GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000"
GOOD = {
    "all": ("devices: all", None),
    "left out": ("rename: gpu", None),
    "a count": ("devices: 3", 3),
    "indices": ("devices: [0, 15]", ("0", "15")),
    "indices as text": ('devices: ["0", "15"]', ("0", "15")),
    "an instance": ('devices: ["1:0"]', ("1:0",)),
    "a UUID": (f"devices: [{ONE}]", (ONE,)),
    "a UUID in capitals": (f"devices: [GPU-{ONE[4:].upper()}]", (f"GPU-{ONE[4:].upper()}",)),
    "an instance's UUID": (f"devices: [MIG-{ONE[4:]}]", (f"MIG-{ONE[4:]}",)),
    "an instance's old name": (f"devices: [MIG-{ONE}/7/0]", (f"MIG-{ONE}/7/0",)),
    "all forms": (f'devices: [0, "1", "2:3", {ONE}]', ("0", "1", "2:3", ONE)),
}


@pytest.mark.parametrize(("written", "devices"), GOOD.values(), ids=GOOD)
def test_forms_of_devices(
    tmp_path: Path, written: str, devices: int | tuple[str, ...] | None
) -> None:
    """`devices` is all, a number, or a list of indices, MIG places and UUIDs."""
    found = shares(tmp_path, entries(f"{{name: gpu, replicas: 2, {written}}}"))
    assert found == {GPU: (Share(GPU, 2, devices),)}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("sharing: {}", {}),
        (entries("{name: gpu, replicas: 2}"), {GPU: (Share(GPU, 2),)}),
        (entries("{name: nvidia.com/gpu, replicas: 2}"), {GPU: (Share(GPU, 2),)}),
        (
            entries("{name: gpu, replicas: 69905, rename: a}"),
            {GPU: (Share("nvidia.com/a", 69905),)},
        ),
        (
            entries("{name: gpu, replicas: 2}", more="renameByDefault: true, "),
            {GPU: (Share("nvidia.com/gpu.shared", 2),)},
        ),
        (
            entries("{name: gpu, replicas: 2, rename: a}", more="renameByDefault: true, "),
            {GPU: (Share("nvidia.com/a", 2),)},
        ),
        (
            entries("{name: mig-1g.10gb, replicas: 3}", "{name: gpu, replicas: 2}"),
            {SLICE: (Share(SLICE, 3),), GPU: (Share(GPU, 2),)},
        ),
        (
            entries("{name: gpu, replicas: 3, devices: 1}", "{name: gpu, replicas: 2}"),
            {GPU: (Share(GPU, 3, 1), Share(GPU, 2))},
        ),
    ],
    ids=[
        "nothing",
        "by name",
        "by full name",
        "renamed",
        "renamed by default",
        "renamed though there is a default",
        "two resources",
        "two entries for one",
    ],
)
def test_time_slicing(tmp_path: Path, content: str, expected: dict[str, tuple[Share, ...]]) -> None:
    """Each entry shares a resource, under its new name, with .shared, or its own name."""
    assert shares(tmp_path, content) == expected


def test_a_suffixed_name_of_63_characters_is_allowed(tmp_path: Path) -> None:
    """A resource name that has 63 characters with .shared is allowed."""
    name = "n" * 45
    found = shares(
        tmp_path, entries(f"{{name: {name}, replicas: 2}}", more="renameByDefault: true, ")
    )
    assert found == {f"nvidia.com/{name}": (Share(f"nvidia.com/{name}.shared", 2),)}


def test_flag_and_file_share_different_resources(tmp_path: Path) -> None:
    """The shares of the flag and of the file are used together."""
    path = tmp_path / "config.yaml"
    path.write_text(entries("{name: mig-1g.10gb, replicas: 3}"))
    flags = {"service.configFile": str(path), "service.resourceConfig": "gpu:a:2"}
    expected = {GPU: (Share("nvidia.com/a", 2),), SLICE: (Share(SLICE, 3),)}
    assert load(flags, {}).shares == expected


def test_flag_and_file_do_not_share_the_same_resource(tmp_path: Path) -> None:
    """A resource that both flag and file share is refused, with or without its domain."""
    path = tmp_path / "config.yaml"
    path.write_text(entries("{name: nvidia.com/gpu, replicas: 3}"))
    flags = {"service.configFile": str(path), "service.resourceConfig": "gpu:a:2"}
    assert message(flags, {}) == (
        "cannot share nvidia.com/gpu twice, by --resource-config and by sharing.timeSlicing in "
        f'"{path}": use only one of them'
    )


@pytest.mark.parametrize("second", ["gpu:b:4", "nvidia.com/gpu:b:4"])
def test_a_flag_that_shares_a_resource_twice_is_refused(second: str) -> None:
    """A resource that --resource-config gives twice is refused: no entry is dropped silently."""
    expected = (
        f'cannot use --resource-config "{second}": nvidia.com/gpu is given twice; '
        "remove one of the entries"
    )
    assert message({"service.resourceConfig": f"gpu:a:2,{second}"}, {}) == expected
