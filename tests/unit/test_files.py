"""Reading users' YAML and JSON files as typed values."""

import os
import time
from pathlib import Path

import msgspec
import pytest

from supervisor.config import read_file


class Box(msgspec.Struct, frozen=True):
    """The content of the files in these tests."""

    size: int = 0
    owner: str = ""


@pytest.mark.parametrize("content", ["size: 3\nowner: me\n", '{"size": 3, "owner": "me"}'])
def test_yaml_and_json_are_read(tmp_path: Path, content: str) -> None:
    """A YAML or JSON file is read as plain content and as a typed value."""
    path = tmp_path / "box"
    path.write_text(content)
    assert read_file.read(str(path), "box", Box) == ({"size": 3, "owner": "me"}, Box(3, "me"))


def test_the_plain_content_has_only_what_the_file_says(tmp_path: Path) -> None:
    """Defaults are in the typed value only: the plain content has only the file's keys."""
    path = tmp_path / "box"
    path.write_text("size: 3\n")
    assert read_file.read(str(path), "box", Box) == ({"size": 3}, Box(3, ""))


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """The error for a bad file names its purpose, its path, and what is wrong."""
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
    """A key that is given twice in a mapping is an error with the key and its place."""
    path = tmp_path / "box"
    path.write_text(content)
    with pytest.raises(read_file.FileError) as error:
        read_file.read(str(path), "box", Box)
    assert str(error.value).endswith(f': {place}: the key "{key}" is given twice')


def test_the_same_key_in_two_mappings_is_allowed(tmp_path: Path) -> None:
    """Two mappings may have the same key."""
    path = tmp_path / "box"
    path.write_text("- {a: 1}\n- {a: 2}\n")
    assert read_file.read(str(path), "boxes", list)[1] == [{"a": 1}, {"a": 2}]


def test_a_key_without_a_value_is_left_out(tmp_path: Path) -> None:
    """A key with only a comment as its value keeps its default."""
    path = tmp_path / "box"
    path.write_text("size:\n  # 3\nowner: me\n")
    assert read_file.read(str(path), "box", Box) == ({"owner": "me"}, Box(0, "me"))


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    """A YAML tag that creates a Python object is an error, and does not run."""
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
    """Return the error for a file with *content*, without its beginning."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(read_file.FileError) as error:
        read_file.read(str(path), "box", dict)
    return str(error.value).removeprefix(f'cannot use the box "{path}": ')


def test_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    """A key beside `<<` overrides the merged key, also when that mapping is merged again."""
    path = tmp_path / "box"
    path.write_text("base: &base {x: 1}\np: {q: &a {<<: *base, x: 2}}\nb: {<<: *a}\n")
    assert read_file.read(str(path), "box", dict)[1] == {
        "base": {"x": 1},
        "p": {"q": {"x": 2}},
        "b": {"x": 2},
    }


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"], ids=["lists", "merges"])
def test_aliases_that_multiply_are_refused(tmp_path: Path, form: str) -> None:
    """A short file whose aliases expand to more than 50000 values is refused."""
    first = "a0: &a0 " + form.format("{b: c}" if "<<" in form else "x")
    more = (f"a{n}: &a{n} " + form.format(",".join([f"*a{n - 1}"] * 9)) for n in range(1, 12))
    why = refused(tmp_path / "box", "\n".join([first, *more]))
    assert "more than 50000 values" in why


def test_a_file_of_too_many_values_is_refused_before_its_end_is_parsed(tmp_path: Path) -> None:
    """The reader stops at the first value too many: it never sees the mistake behind it."""
    content = "a: [" + "a," * 60_000 + "]\n\t- a mistake: {"
    why = refused(tmp_path / "box", content)
    assert why.endswith("the file has more than 50000 values")


def test_many_keys_are_read_in_time_that_grows_with_their_number(tmp_path: Path) -> None:
    """Reading 10000 keys takes far less CPU time than a quadratic reader would need."""
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
        (
            f"a: {'9' * 5000}",
            "line 1, column 4: the text has 5000 bytes; write at most 4095 bytes",
        ),
        (
            f"? {'k' * 5000}\n: 1",
            "line 1, column 3: the text has 5000 bytes; write at most 4095 bytes",
        ),
        (f"a: 0x{'f' * 4000}", "line 1, column 4: the number is too large"),
        (f"a: {1 << 63}", "line 1, column 4: the number is too large"),
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
    """Input that could break a reader is refused with a normal error and its place."""
    assert refused(tmp_path / "box", content) == why


def test_a_prefix_without_digits_is_text(tmp_path: Path) -> None:
    """`0x_` is text, and the error says that its key needs a number."""
    path = tmp_path / "box"
    path.write_text("size: 0x_\n")
    with pytest.raises(read_file.FileError, match="size: Expected `int`, got `str`"):
        read_file.read(str(path), "box", Box)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """A named pipe is refused at once, as its writer may never come."""
    path = tmp_path / "box"
    os.mkfifo(path)
    with pytest.raises(read_file.FileError, match="it is not a regular file"):
        read_file.read(str(path), "box", Box)
