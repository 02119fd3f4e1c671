"""Files that users write, as typed values."""

from pathlib import Path

import msgspec
import pytest

from supervisor import files


class Box(msgspec.Struct, frozen=True):
    """What the files here hold."""

    size: int = 0
    owner: str = ""


@pytest.mark.parametrize("content", ["size: 3\nowner: me\n", '{"size": 3, "owner": "me"}'])
def test_yaml_and_json_are_read(tmp_path: Path, content: str) -> None:
    """A file may be YAML or JSON, and comes back both as it is and typed."""
    path = tmp_path / "box"
    path.write_text(content)
    assert files.read(str(path), "box", Box) == ({"size": 3, "owner": "me"}, Box(3, "me"))


def test_the_plain_content_has_only_what_the_file_says(tmp_path: Path) -> None:
    """A default is part of the typed value, not of the plain one: another layer may set it."""
    path = tmp_path / "box"
    path.write_text("size: 3\n")
    assert files.read(str(path), "box", Box) == ({"size": 3}, Box(3, ""))


def test_an_error_says_what_the_file_is(tmp_path: Path) -> None:
    """The message of a bad file names what it is for, where it is, and what is wrong."""
    path = tmp_path / "box"
    path.write_text("size: big\n")
    with pytest.raises(files.FileError) as error:
        files.read(str(path), "box", Box)
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
    with pytest.raises(files.FileError) as error:
        files.read(str(path), "box", Box)
    assert str(error.value).endswith(f': {place}: the key "{key}" is given twice')


def test_the_same_key_in_two_sections_is_two_keys(tmp_path: Path) -> None:
    """A key may come again in another mapping."""
    path = tmp_path / "box"
    path.write_text("- {a: 1}\n- {a: 2}\n")
    assert files.read(str(path), "boxes", list)[1] == [{"a": 1}, {"a": 2}]


def test_a_key_without_a_value_is_left_out(tmp_path: Path) -> None:
    """What has only comments behind it leaves the default as it is, at any depth."""
    path = tmp_path / "box"
    path.write_text("size:\n  # 3\nowner: me\n")
    assert files.read(str(path), "box", Box) == ({"owner": "me"}, Box(0, "me"))


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    """A YAML tag that would make a Python object is an error of the file, and makes none."""
    path = tmp_path / "box"
    made = tmp_path / "made"
    path.write_text(
        f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{made}]]"
    )
    with pytest.raises(
        files.FileError, match="line 1, column 1: could not determine a constructor"
    ):
        files.read(str(path), "box", Box)
    assert not made.exists()
