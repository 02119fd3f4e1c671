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
    expected = f'cannot use the box "{path}": Expected `int`, got `str` - at `$.size`'
    assert str(error.value) == expected


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
