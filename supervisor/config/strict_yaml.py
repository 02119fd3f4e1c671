"""A YAML loader for users' files, which refuses mistakes and files made to break it."""

import re
from collections import Counter
from collections.abc import Hashable
from typing import Any

import yaml

from supervisor.config.option import LONGEST_TEXT

MOST_VALUES = 50_000
"""Most values of a file, with aliases expanded; 64 GPUs with all links have 25,000."""

INT_BITS = 63
"""Most bits of a number; no message between processes has room for more."""

INT = "tag:yaml.org,2002:int"


class Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, and reads 1:0 as text, the index of a MIG instance.

    The base class would use the last of the keys, and would read 1:0 as the number 60 (YAML 1.1).
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base's name and kind
        first: [(tag, pattern) for tag, pattern in resolvers if tag != INT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node; refuse a file of too many values as soon as they are counted."""
        self._composed += 1
        if self._composed > MOST_VALUES:
            # Not later: parsing the rest of the file would take seconds.
            problem = f"the file has more than {MOST_VALUES} values"
            raise yaml.composer.ComposerError(None, None, problem, self.get_mark())
        return super().compose_node(parent, index)

    def get_single_node(self) -> yaml.Node | None:
        """Return the checked document, before aliases are expanded."""
        node = super().get_single_node()
        if node is not None:
            _values(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Hashable:  # noqa: FBT001, FBT002
        """Return the value of *node*."""
        try:
            found: Hashable = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            # The base class raises these if a value does not fit its tag or apparent type.
            raise _refusal(node, f"this is not a valid {node.tag.rpartition(':')[2]}") from error
        if isinstance(found, int) and found.bit_length() > INT_BITS:
            raise _refusal(node, "the number is too large")
        return found


Loader.add_implicit_resolver(
    INT,
    re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0o?[0-7][0-7_]*)$"),
    list("-+0123456789"),
)


def _refusal(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values *node* has with aliases expanded; *known* are counts so far.

    Raises MarkedYAMLError for a node that is too large, contains itself, or has a key twice.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise _refusal(node, "an alias contains itself")
        return known[id(node)]
    known[id(node)] = 0
    count = 1 + sum(_values(part, known) for part in _parts(node))
    if count > MOST_VALUES:
        raise _refusal(node, f"with its aliases it has more than {MOST_VALUES} values")
    known[id(node)] = count
    return count


def _parts(node: yaml.Node) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        _require_distinct([key for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return [part for pair in node.value for part in pair]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if (size := len(node.value.encode(errors="surrogatepass"))) > LONGEST_TEXT:
        raise _refusal(node, f"the text has {size} bytes; write at most {LONGEST_TEXT} bytes")
    # In a path, both would raise an exception where nobody expects one.
    if "\0" in node.value or any("\ud800" <= character <= "\udfff" for character in node.value):
        raise _refusal(node, "the text has a NUL or surrogate character, which no path can have")
    return []


def _require_distinct(keys: list[yaml.ScalarNode]) -> None:
    counts = Counter(key.value for key in keys)
    for key in keys:
        if counts[key.value] > 1:
            raise _refusal(key, f'the key "{key.value}" is given twice')


def load(text: str) -> Any:
    """Return the content of *text*; raise ValueError with one line if it cannot be read."""
    try:
        return yaml.load(text, Loader)  # noqa: S506 - our Loader is a SafeLoader
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        if isinstance(error, yaml.MarkedYAMLError) and mark:
            where = f"line {mark.line + 1}, column {mark.column + 1}"
            raise ValueError(f"{where}: {error.problem}") from error
        raise ValueError(str(error)) from error
