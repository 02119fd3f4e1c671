"""scripts/gen-logs, which makes the table of docs/logs.md."""

import importlib.util
import json
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FILE = "health/main.py"


def _load() -> ModuleType:
    """Import the generator; its file name has no suffix."""
    loader = SourceFileLoader("gen_logs", str(ROOT / "scripts/gen-logs"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up their module while they are created.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, loader.name, module)
        loader.exec_module(module)
    return module


generator = _load()


def _page(*rows: str) -> str:
    return "\n".join(["Words.", "<!-- table: messages -->", *rows, "<!-- end -->", "More words.\n"])


@pytest.mark.parametrize(
    ("call", "message", "levels", "fields"),
    [
        ('logger.info("found", uuid=u, gpus=len(g))', "found", {"INFO"}, ("uuid", "gpus")),
        ('logger.debug("child")', "child", {"DEBUG"}, ()),
        ('logger.exception("crashed")', "crashed", {"ERROR"}, ()),
        ('logger.log("WARNING", "odd", a=1)', "odd", {"WARNING"}, ("a",)),
        ('logger.log("ERROR" if x else "INFO", "odd")', "odd", {"ERROR", "INFO"}, ()),
        ('logger.log(level, "odd")', "odd", {"ERROR", "WARNING"}, ()),
        (
            'logger.bind(a=1).opt(depth=1).bind(b=2).error("bad", c=3)',
            "bad",
            {"ERROR"},
            tuple("abc"),
        ),
        ('logger.warning("odd", **{"a": 1, "b": 2})', "odd", {"WARNING"}, ("a", "b")),
    ],
)
def test_a_call_is_found(
    call: str, message: str, levels: set[str], fields: tuple[str, ...]
) -> None:
    """A log call is found with its message, levels, fields, processes and line number."""
    [line] = generator.find_lines(f"\ndef f():\n    {call}\n", FILE)
    assert (line.message, line.levels, line.fields) == (message, levels, fields)
    assert (line.processes, line.place) == ({"monitor"}, f"{FILE}:3")


def test_levels_come_from_the_same_function() -> None:
    """A level in a variable may be any level that the same function names."""
    source = """
def f(code):
    level = "DEBUG" if code in {"ERROR-LIKE"} else "WARNING"
    logger.log(level, "child ended")
def g():
    level = "ERROR"
"""
    [line] = generator.find_lines(source, FILE)
    assert line.levels == {"DEBUG", "WARNING"}


def test_fields_of_a_mapping_are_those_of_its_function() -> None:
    """The fields of `**function()` are the keys of the dictionaries in that function."""
    source = """
def f():
    logger.info("new", hash=1, **_file(x))
def _file(x):
    return {"file": x.name} if x else {}
"""
    [line] = generator.find_lines(source, FILE)
    assert line.fields == ("hash", "file")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ('logger.error(f"cannot read {x}")', "the message must be a constant text"),
        ("logger.error(text)", "the message must be a constant text"),
        ('logger.error("cannot read " + x)', "the message must be a constant text"),
        ("logger.error()", "the message must be a constant text"),
        ('logger.log("ERROR", f"{x}")', "the message must be a constant text"),
        ('logger.error("cannot read {}", x)', "put data into fields"),
        ('logger.error("cannot read {x}", x=1)', "leave {, }, | and ` out"),
        ('logger.error("cannot " "read")', "write the message in one piece"),
        ('logger.error("bad", **fields)', "write the keys of **fields literally"),
        ('logger.critical("bad")', "call debug, info, warning, error, exception, log directly"),
        ("ours = logger.bind(a=1)", "call debug, info, warning, error, exception, log directly"),
        ("from loguru import logger as log", "write: from loguru import logger"),
        ("import loguru", "write: from loguru import logger"),
    ],
)
def test_an_unclear_call_is_refused(source: str, complaint: str) -> None:
    """An unclear log call is an error with its place and what to write instead."""
    with pytest.raises(generator.VocabularyError) as error:
        list(generator.find_lines(f"\n{source}\n", FILE))
    assert str(error.value).startswith(f"cannot accept the log call at {FILE}:2: {complaint}")


def test_other_loggers_are_ignored() -> None:
    """Calls of methods with a logger's names on other objects are ignored."""
    source = 'log.xid(event)\nmath.log(f"{x}")\nself.logger.error(f"{x}")\n'
    assert list(generator.find_lines(source, FILE)) == []


@pytest.mark.parametrize(
    ("file", "processes"),
    [
        ("supervisor/loop.py", {"supervisor"}),
        ("supervisor/child.py", {"monitor", "worker", "exporter", "cluster", "labels", "mps"}),
        ("supervisor/labels/writer.py", {"cluster", "labels"}),
        ("supervisor/exporter/main.py", {"exporter"}),
        ("supervisor/mps/keeper.py", {"mps"}),
        ("proto/child_loop.py", {"worker", "exporter", "cluster", "labels", "mps"}),
    ],
)
def test_the_processes_of_a_file(file: str, processes: set[str]) -> None:
    """A file's processes are those of the longest prefix of its path."""
    [line] = generator.find_lines('logger.info("x")', file)
    assert line.processes == processes


def test_a_file_of_no_known_process_is_refused() -> None:
    """A file whose process is unknown is an error that names the file."""
    with pytest.raises(generator.VocabularyError, match="cannot tell which process runs proto/x"):
        list(generator.find_lines('logger.info("x")', "proto/x.py"))


def test_calls_with_one_message_are_one_row() -> None:
    """Calls with the same message are one row with all levels, worst first, and all fields."""
    lines = generator.merge(
        [
            *generator.find_lines('logger.info("a", x=1)', "workers/main.py"),
            *generator.find_lines('logger.info("b", x=1)\nlogger.error("b", y=1, x=1)', FILE),
            *generator.find_lines('logger.warning("b", x=1)', "supervisor/loop.py"),
        ]
    )
    filled = generator.fill(_page("| `b` | | | | Look. |"), lines)
    assert filled == _page(
        "| message | level | process | fields | what to do |",
        "|---|---|---|---|---|",
        "| `b` | ERROR, WARNING, INFO | supervisor, monitor | `x`, `y` | Look. |",
        "| `a` | INFO | worker | `x` | nothing |",
    )


def test_the_last_column_stays_with_its_message() -> None:
    r"""A message keeps its advice unchanged, `\|` included; unused messages are removed."""
    old = _page(
        "| message | level | process | fields | what to do |",
        "|---|---|---|---|---|",
        "| `gone` | ERROR | monitor |  | Weep. |",
        r"| `bad` | INFO | worker | `a` | Run `a \| b`, see [x](y.md). |",
    )
    new = generator.fill(old, generator.merge(generator.find_lines('logger.error("bad")', FILE)))
    assert r"| `bad` | ERROR | monitor |  | Run `a \| b`, see [x](y.md). |" in new
    assert "gone" not in new
    assert (
        generator.fill(new, generator.merge(generator.find_lines('logger.error("bad")', FILE)))
        == new
    )


def test_a_row_that_cannot_be_read_is_refused() -> None:
    """A row with an unescaped | in its advice is an error, as half of it would be lost."""
    with pytest.raises(generator.VocabularyError, match="cannot read this row"):
        generator.read_advice(_page("| `bad` | ERROR | monitor | | Run a | b. |"))


@pytest.mark.parametrize("advice", [{}, {"bad": ""}, {"bad": "nothing"}])
@pytest.mark.parametrize("level", ["warning", "error"])
def test_a_warning_without_advice_is_refused(level: str, advice: dict[str, str]) -> None:
    """A warning or error without advice is a complaint with its message and place."""
    lines = generator.merge(generator.find_lines(f'logger.{level}("bad")', FILE))
    [complaint] = generator.complaints(lines, advice)
    assert complaint.startswith(f'cannot accept "bad" ({FILE}:1): write what to do')
    assert generator.complaints(lines, {"bad": "Look."}) == []


def test_an_info_line_needs_no_advice() -> None:
    """An INFO message is accepted without advice."""
    lines = generator.merge(generator.find_lines('logger.info("good")', FILE))
    assert generator.complaints(lines, {}) == []


def test_the_examples_of_the_page_are_messages_of_its_table() -> None:
    """The page's two examples show the same message, and it is in the table."""
    page = (ROOT / "docs/logs.md").read_text()
    block = re.search(r"```json\n(.*?)\n```", page, re.DOTALL)
    assert block
    message = json.loads(block[1])["message"]
    assert message in generator.read_advice(page)
    assert f": {message} uuid=" in page
