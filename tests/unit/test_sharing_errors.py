"""Errors for bad sharing in the configuration file."""

from pathlib import Path

import pytest

from tests.unit.refusal import message
from tests.unit.test_sharing import LONG, NO_NAME, entries

FIRST = "sharing.timeSlicing.resources[0]"
ALLOWED = 'write "all", a count from 1, or a list of indices, "GPU:MIG" indices and UUIDs'


def refusal(folder: Path, content: str) -> str:
    """Return the error for a file with *content*, without the file's name."""
    path = folder / "config.yaml"
    path.write_text(content)
    text = message({"service.configFile": str(path)}, {})
    return text.removeprefix("cannot use ").removeprefix(f'the configuration file "{path}": ')


TYPES = {
    "no resources": (
        "sharing: {timeSlicing: {}}",
        "sharing.timeSlicing: it has no resources to share; leave it out",
    ),
    "empty resources": (
        entries(),
        "sharing.timeSlicing.resources: the list is empty; leave the section out",
    ),
    "a section of resources": (
        "sharing: {timeSlicing: {resources: {}}}",
        "sharing.timeSlicing.resources: Expected `array`, got `object`",
    ),
    "a word for failRequestsGreaterThanOne": (
        entries("{name: gpu, replicas: 2}", more="failRequestsGreaterThanOne: maybe, "),
        "sharing.timeSlicing.failRequestsGreaterThanOne: Expected `bool`, got `str`",
    ),
    "an unknown key": (
        "sharing: {timeSlicing: {nonsense: 1, resources: []}}",
        (
            'sharing.timeSlicing: unknown key "nonsense"; '
            "allowed keys: resources, renameByDefault, failRequestsGreaterThanOne"
        ),
    ),
    "an unknown key of an entry": (
        entries("{name: gpu, replicas: 2}", "{name: gpu, replicas: 2, nonsense: 1}"),
        (
            "sharing.timeSlicing.resources[1]: unknown key "
            '"nonsense"; allowed keys: name, replicas, rename, devices'
        ),
    ),
}
ENTRIES = {
    "no name": ("{replicas: 2}", ": Object missing required field `name`"),
    "an empty name": ("{name: '', replicas: 2}", ".name: Expected `str` of length >= 1"),
    "no replicas": ("{name: gpu}", ": Object missing required field `replicas`"),
    "one replica": (
        "{name: gpu, replicas: 1}",
        ".replicas: one replica shares nothing; leave the entry out",
    ),
    "no replica": ("{name: gpu, replicas: 0}", ".replicas: Expected `int` >= 2"),
    "replicas by memory": ("{name: gpu, replicas: -1}", ".replicas: Expected `int` >= 2"),
    "replicas as text": (
        "{name: gpu, replicas: '2'}",
        '.replicas: "2" is a text; write 2 without quotes',
    ),
    "a whole number as a fraction": (
        "{name: gpu, replicas: 4.0}",
        ".replicas: 4.0 is not a whole number; write 4",
    ),
    "a profile as nvidia-smi prints it": (
        "{name: mig-1g.24gb+gfx, replicas: 2}",
        '.name: "nvidia.com/mig-1g.24gb+gfx" is not a resource name; write mig-1g.24gb.gfx',
    ),
    "a fraction": ("{name: gpu, replicas: 2.5}", ".replicas: Expected `int`, got `float`"),
    "too many replicas": (
        "{name: gpu, replicas: 69906}",
        (
            ".replicas: the kubelet accepts lists of 4 MiB, too small for 69906 replicas; "
            "write at most 69905"
        ),
    ),
    "an upper-case name": ("{name: GPU, replicas: 2}", f'.name: "nvidia.com/GPU" {NO_NAME}'),
    "a foreign domain": (
        "{name: a.example/gpu, replicas: 2}",
        f'.name: "nvidia.com/a.example/gpu" {NO_NAME}',
    ),
    "an upper-case new name": (
        "{name: gpu, replicas: 2, rename: Shared}",
        f'.rename: "nvidia.com/Shared" {NO_NAME}',
    ),
    "a name too long": (
        f"{{name: {LONG}, replicas: 2}}",
        f'.name: "nvidia.com/{LONG}" has 64 characters; write at most 63',
    ),
    "a new name too long": (
        f"{{name: gpu, replicas: 2, rename: {LONG}}}",
        f'.rename: "nvidia.com/{LONG}" has 64 characters; write at most 63',
    ),
    "another word than all": (
        "{name: gpu, replicas: 2, devices: ALL}",
        f'.devices: "ALL" is not "all"; {ALLOWED}',
    ),
    "a UUID that is in no list": (
        "{name: gpu, replicas: 2, devices: GPU-1}",
        f'.devices: "GPU-1" is not "all"; {ALLOWED}',
    ),
    "no device": (
        "{name: gpu, replicas: 2, devices: 0}",
        f".devices: 0 is not a count; {ALLOWED}",
    ),
    "less than no device": (
        "{name: gpu, replicas: 2, devices: -1}",
        f".devices: -1 is not a count; {ALLOWED}",
    ),
    "an empty list of devices": (
        "{name: gpu, replicas: 2, devices: []}",
        f".devices: the list is empty; {ALLOWED}",
    ),
    "a count that is a fraction": (
        "{name: gpu, replicas: 2, devices: 2.0}",
        ".devices: Expected `int | str | array`, got `float`",
    ),
    "a truth for devices": (
        "{name: gpu, replicas: 2, devices: true}",
        ".devices: Expected `int | str | array`, got `bool`",
    ),
    "a section of devices": (
        "{name: gpu, replicas: 2, devices: {}}",
        ".devices: Expected `int | str | array`, got `object`",
    ),
    "a fraction among devices": (
        "{name: gpu, replicas: 2, devices: [0, 1.5]}",
        ".devices[1]: Expected `int | str`, got `float`",
    ),
}
NO_DEVICES = {
    "a word": "all",
    "a negative index": "-1",
    "an unfinished UUID": "GPU-1",
    "a UUID without its kind": "5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000",
    "a UUID with an end": "GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000x",
    "a MIG UUID in GPU-MIG order": "GPU-MIG-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000",
    "three numbers": "1:2:3",
    "a place without index": ":1",
    "an old name without CI": "MIG-GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000/7",
    "a new name with GI and CI": "MIG-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000/7/0",
    "nothing": "",
    "a number and more": "0 ",
}


@pytest.mark.parametrize(("content", "problem"), TYPES.values(), ids=TYPES)
def test_bad_sharing(tmp_path: Path, content: str, problem: str) -> None:
    """Bad sharing is refused, and the error has the path of its key."""
    assert refusal(tmp_path, content) == problem


@pytest.mark.parametrize(("entry", "problem"), ENTRIES.values(), ids=ENTRIES)
def test_a_bad_entry(tmp_path: Path, entry: str, problem: str) -> None:
    """A bad entry is refused with its place, its key and what is allowed."""
    assert refusal(tmp_path, entries(entry)) == FIRST + problem


@pytest.mark.parametrize("written", NO_DEVICES.values(), ids=NO_DEVICES)
def test_a_text_that_names_no_device(tmp_path: Path, written: str) -> None:
    """A text in `devices` that is no index, MIG place or UUID is refused."""
    entry = f'{{name: gpu, replicas: 2, devices: [0, "{written}"]}}'
    expected = f'{FIRST}.devices: "{written}" is not the name of a device; {ALLOWED}'
    assert refusal(tmp_path, entries(entry)) == expected


def test_a_name_that_the_suffix_makes_too_long(tmp_path: Path) -> None:
    """A name that is too long with the suffix of renameByDefault is refused."""
    name = "n" * 46
    content = entries(f"{{name: {name}, replicas: 2}}", more="renameByDefault: true, ")
    long = f'"nvidia.com/{name}.shared" has 64 characters; write at most 63'
    assert refusal(tmp_path, content) == f"{FIRST}.name: {long}"


def test_the_error_has_the_entrys_place(tmp_path: Path) -> None:
    """The error has the bad entry's place in the list, from 0."""
    content = entries("{name: gpu, replicas: 2}", "{name: gpu, replicas: 2, devices: 0}")
    problem = f"sharing.timeSlicing.resources[1].devices: 0 is not a count; {ALLOWED}"
    assert refusal(tmp_path, content) == problem


@pytest.mark.parametrize("kind", ["gpus", "mig"])
def test_a_bad_name_of_a_pattern(tmp_path: Path, kind: str) -> None:
    """A bad resource name of a pattern is refused like any other name."""
    good, bad = '{pattern: "*", name: good}', '{pattern: "*", name: a.example/gpu}'
    problem = f'resources.{kind}[1].name: "nvidia.com/a.example/gpu" {NO_NAME}'
    assert refusal(tmp_path, f"resources: {{{kind}: [{good}, {bad}]}}") == problem
    long = f'resources.{kind}[0].name: "nvidia.com/{LONG}" has 64 characters; write at most 63'
    content = f'resources: {{{kind}: [{{pattern: "*", name: {LONG}}}]}}'
    assert refusal(tmp_path, content) == long


def test_a_resource_that_is_shared_twice(tmp_path: Path) -> None:
    """An entry that can have no effect, because an earlier one shares all devices, is refused."""
    content = entries("{name: gpu, replicas: 2}", "{name: nvidia.com/gpu, replicas: 4, devices: 1}")
    assert refusal(tmp_path, content) == (
        "sharing.timeSlicing.resources[1]: an earlier entry shares all devices of nvidia.com/gpu; "
        "remove one of the entries, or name the devices of each"
    )
