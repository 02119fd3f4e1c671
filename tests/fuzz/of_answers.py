"""Targets for what others answer: the kubelet, the API server, and our own exporter."""

import contextlib
import functools
import io
import json
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from lightkube.core import decoders
from lightkube.resources.core_v1 import Node
from rich.console import Console

from supervisor.cluster import answers
from supervisor.cluster.apiserver import label_of
from supervisor.cluster.label_report import told
from supervisor.commands.show_status import show as show_status
from supervisor.exporter import pod_list
from supervisor.exporter.pages import render
from supervisor.exporter.samples import samples
from supervisor.status import dra
from supervisor.status.allocations import Allocation, DynamicDevice
from supervisor.status.report import Status
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage_history import History
from tests.fakes import showcase
from tests.fakes.pod_lists import GPU, plainly

T = TypeVar("T")

OURS = frozenset({GPU, showcase.SHARED})
REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that only pauses; an event loop for each would be slow."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        found: T = end.value
        return found


def pod_resources(data: bytes) -> None:
    """Read a list of pods as protobuf does, or refuse it."""
    try:
        found = _run(pod_list.read(data, OURS))
    except pod_list.NonsenseError:
        return
    assert found == plainly(data, OURS)
    if found.dynamic:
        _show(replace(_node(), dynamic=found.dynamic))


def _show(known: Snapshot) -> None:
    """Show what is known on each page, and export each series only once."""
    for path in ("/status", "/"):
        assert render(path, known, showcase.ABOUT, History())
    shown = [(s.name, s.labels) for s in samples(known, showcase.ABOUT, {}, 100.0, 1e9)]
    assert len(shown) == len(set(shown))


@functools.cache
def _node() -> Snapshot:
    """Return a node with one GPU: pages of more would take most of the time."""
    known = showcase.snapshot(100.0, 1e9)
    assert known.node
    inventory = msgspec.structs.replace(
        known.node.inventory, gpus=known.node.inventory.gpus[:1], failed=()
    )
    node = msgspec.structs.replace(
        known.node, inventory=inventory, health=known.node.health[:1], xids=()
    )
    return replace(known, node=node)


def holders(data: bytes) -> None:
    """Show any holders on each page, and export each series only once."""
    known = _node()
    texts = data.decode(errors="replace").split("|")[:8]
    held = dict.fromkeys(
        Allocation(resource, device, texts[0], texts[-1], texts[len(texts) // 2])
        for resource in known.workers
        for device in texts
    )
    claimed = (
        DynamicDevice(dra.NVIDIA, text, "gpu-0", text, texts[0], texts[-1], text) for text in texts
    )
    _show(replace(known, allocations=tuple(held), dynamic=tuple(claimed)))


def api_node(data: bytes) -> None:
    """Report the label of any node that the API server sends, in few bytes."""
    with contextlib.suppress(*REFUSED):
        report = told(label_of(decoders.decode_object(data, Node), "a"))
        assert len(msgspec.msgpack.encode(report)) < 2000


def api_lines(data: bytes) -> None:
    """Pass on a watch in whole lines, of which none is longer than allowed."""
    longest, size = (data[0] + 1, data[1] % 16 + 1) if len(data) > 1 else (1, 1)
    text = data[2:]

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(text), size):
            yield text[at : at + size]

    async def read() -> list[bytes]:
        return [lines async for lines in answers.lines(chunks(), longest)]

    with contextlib.suppress(answers.TooLongError):
        found = _run(read())
        assert all(lines.endswith(b"\n") for lines in found[:-1])
        whole = text
        for character, escape in answers.SEPARATORS:
            whole = whole.replace(character.encode(), escape)
        assert b"".join(found) == whole
        return
    assert max(map(len, text.split(b"\n"))) > longest


def status_answer(data: bytes) -> None:
    """Print the exporter's status so that it commands no terminal, as text and as JSON."""
    try:
        status, plain = msgspec.json.decode(data, type=Status), msgspec.json.decode(data)
    except REFUSED:
        return
    printed = json.dumps(plain, indent=2)
    assert json.loads(printed) == plain
    console = Console(file=io.StringIO(), highlight=False, emoji=False, markup=False)
    show_status(status, console)
    assert isinstance(console.file, io.StringIO)
    for line in (*printed.split("\n"), *console.file.getvalue().split("\n")):
        assert line.isprintable()
