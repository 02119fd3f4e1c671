"""Files that users write, as typed values."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from supervisor.config import read_file


class Box(msgspec.Struct, frozen=True):
    """What the files here hold."""

    size: int = 0
    owner: str = ""


@pytest.mark.parametrize("content", ["size: 3\nowner: me\n", '{"size": 3, "owner": "me"}'])
def test_yaml_and_json_are_read(tmp_path: Path, content: str) -> None:
    """A file may be YAML or JSON, and comes back both as it is and typed."""
    path = tmp_path / "box"
    path.write_text(content)
    assert read_file.read(str(path), "box", Box) == ({"size": 3, "owner": "me"}, Box(3, "me"))


def test_the_plain_content_has_only_what_the_file_says(tmp_path: Path) -> None:
    """A default is part of the typed value, not of the plain one: another layer may set it."""
    path = tmp_path / "box"
    path.write_text("size: 3\n")
    assert read_file.read(str(path), "box", Box) == ({"size": 3}, Box(3, ""))


def test_an_error_says_what_the_file_is(tmp_path: Path) -> None:
    """The message of a bad file names what it is for, where it is, and what is wrong."""
    path = tmp_path / "box"
    path.write_text("size: big\n")
    with pytest.raises(read_file.FileError) as error:
        read_file.read(str(path), "box", Box)
    expected = f'cannot use the box "{path}": size: Expected `int`, got `str`'
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("content", "place", "key"),
    [
        ("size: 1\nsize: 1\n", "line 1, column 1", "size"),
        ('{"owner": "me", "size": 1, "owner": "you"}', "line 1, column 2", "owner"),
        ("owner: me\nsize:\n  1: a\n  b: a\n  b: a\n", "line 4, column 3", "b"),
        ("- {a: 1, b: 2, a: 3}", "line 1, column 4", "a"),
    ],
    ids=["YAML", "JSON", "in a section", "in a list"],
)
def test_a_key_that_is_given_twice_is_refused(
    tmp_path: Path, content: str, place: str, key: str
) -> None:
    """Two values for one key are an error that names the key, wherever it is."""
    path = tmp_path / "box"
    path.write_text(content)
    with pytest.raises(read_file.FileError) as error:
        read_file.read(str(path), "box", Box)
    assert str(error.value).endswith(f': {place}: the key "{key}" is given twice')


def test_the_same_key_in_two_sections_is_two_keys(tmp_path: Path) -> None:
    """A key may come again in another mapping."""
    path = tmp_path / "box"
    path.write_text("- {a: 1}\n- {a: 2}\n")
    assert read_file.read(str(path), "boxes", list)[1] == [{"a": 1}, {"a": 2}]


def test_a_key_without_a_value_is_left_out(tmp_path: Path) -> None:
    """What has only comments behind it leaves the default as it is, at any depth."""
    path = tmp_path / "box"
    path.write_text("size:\n  # 3\nowner: me\n")
    assert read_file.read(str(path), "box", Box) == ({"owner": "me"}, Box(0, "me"))


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    """A YAML tag that would make a Python object is an error of the file, and makes none."""
    path = tmp_path / "box"
    made = tmp_path / "made"
    path.write_text(
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{made}]]"
    )
    with pytest.raises(
        read_file.FileError, match="line 1, column 1: could not determine a constructor"
    ):
        read_file.read(str(path), "box", Box)
    assert not made.exists()


def refused(path: Path, content: str | bytes) -> str:
    """Return why a file with *content* is refused."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(read_file.FileError) as error:
        read_file.read(str(path), "box", dict)
    return str(error.value).removeprefix(f'cannot use the box "{path}": ')


def test_a_merged_mapping_may_be_overruled(tmp_path: Path) -> None:
    """A key beside `<<` overrules the merged one, also in a mapping that is merged itself."""
    path = tmp_path / "box"
    path.write_text("base: &base {x: 1}\np: {q: &a {<<: *base, x: 2}}\nb: {<<: *a}\n")
    assert read_file.read(str(path), "box", dict)[1] == {
        "base": {"x": 1},
        "p": {"q": {"x": 2}},
        "b": {"x": 2},
    }


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"], ids=["lists", "merges"])
def test_aliases_that_multiply_are_refused(tmp_path: Path, form: str) -> None:
    """A file of a few lines cannot stand for billions of values."""
    first = "a0: &a0 " + form.format("{b: c}" if "<<" in form else "x")
    more = (f"a{n}: &a{n} " + form.format(",".join([f"*a{n - 1}"] * 9)) for n in range(1, 12))
    why = refused(tmp_path / "box", "\n".join([first, *more]))
    assert "more than 50000 values" in why


def test_many_keys_are_read_in_time_that_grows_with_their_number(tmp_path: Path) -> None:
    """Ten thousand keys are no quadratic work: they stay far below the minutes that would take."""
    path = tmp_path / "box"
    path.write_text("".join(f"k{n}: 1\n" for n in range(10_000)))
    before = time.process_time()
    assert len(read_file.read(str(path), "box", dict)[1]) == 10_000
    assert time.process_time() - before < 4


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a: &a [*a]", "line 1, column 4: an alias contains itself"),
        ("a: " + "[" * 3000, "it is nested too deeply"),
        ("a: !!bool maybe", "line 1, column 4: this is not a valid bool"),
        ("a: !!int ''", "line 1, column 4: this is not a valid int"),
        ("a: !!timestamp soon", "line 1, column 4: this is not a valid timestamp"),
        ("a: 2001-99-99", "line 1, column 4: this is not a valid timestamp"),
        (f"a: {'9' * 5000}", "line 1, column 4: this is not a valid int"),
        ("a: " + ":".join(["1"] * 400) + ".5", "line 1, column 4: this is not a valid float"),
        (
            r'a: "\ud800"',
            "line 1, column 4: the text has a NUL or surrogate character, which no path can have",
        ),
        (
            r'a: "b\0"',
            "line 1, column 4: the text has a NUL or surrogate character, which no path can have",
        ),
        ("#" * 300_000, "it is larger than 256 KiB"),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, content: str, why: str) -> None:
    """What is meant to break a reader is an error like any other, with its place."""
    assert refused(tmp_path / "box", content) == why


def test_digits_that_are_missing_make_no_number(tmp_path: Path) -> None:
    """A prefix without digits is text, which the error for its key then says."""
    path = tmp_path / "box"
    path.write_text("size: 0x_\n")
    with pytest.raises(read_file.FileError, match="size: Expected `int`, got `str`"):
        read_file.read(str(path), "box", Box)


def test_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    """A pipe, whose other end may never write, is refused at once."""
    path = tmp_path / "box"
    os.mkfifo(path)
    with pytest.raises(read_file.FileError, match="it is not a regular file"):
        read_file.read(str(path), "box", Box)
