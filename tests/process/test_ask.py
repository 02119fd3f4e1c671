"""The client of the control socket."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from proto import requests
from proto.control import MarkHealthy
from proto.requests import Answer, Resume
from proto.texts import shortened
from supervisor.commands.ask import AskError, ask
from supervisor.main import main
from tests.fakes.service import PATIENCE

HOSTILE = "\x1b[31m\n\x9b31m\u202e"


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """Listen as the service does, for one client at a time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / requests.SOCKET))
        listener.listen(0)
        yield listener


@contextlib.contextmanager
def crowded(folder: Path) -> Iterator[int]:
    """Fill the queue of the clients that wait for the service; yield how many there are."""
    with contextlib.ExitStack() as stack:
        for count in range(100):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.setblocking(False)
            try:
                client.connect(str(folder / requests.SOCKET))
            except BlockingIOError:
                yield count
                return
        pytest.fail("the queue never fills")


@contextlib.contextmanager
def asking(call: Callable[[], str]) -> Iterator[tuple[int, Future[str]]]:
    """Run a call in a thread; yield the thread's id."""
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        yield thread, pool.submit(call)


def waits_for_place(thread: int) -> None:
    """Wait until a thread waits in the kernel for a place in the queue of a socket."""
    place = Path(f"/proc/self/task/{thread}/wchan")
    deadline = time.monotonic() + PATIENCE
    while place.read_text() not in {"unix_wait_for_peer", "0"}:  # 0 where the kernel hides it
        assert time.monotonic() < deadline


def test_a_full_queue_is_waited_for(folder: Path) -> None:
    """A request is sent as soon as the service has accepted those that came before."""
    with (
        listening(folder) as listener,
        crowded(folder) as before,
        asking(lambda: ask(folder, Resume())) as (thread, answer),
    ):
        waits_for_place(thread)
        for _ in range(before):
            listener.accept()[0].close()
        client, _ = listener.accept()
        with client:
            assert requests.decode(client.recv(requests.LIMIT)) == Resume()
            client.send(requests.encode(Answer(done="done")))
        assert answer.result(PATIENCE) == "done"


def test_a_queue_that_stays_full_is_told(folder: Path) -> None:
    """After its time a request fails with a line that says what the service does."""
    with listening(folder), crowded(folder), pytest.raises(AskError) as told:
        ask(folder, Resume(), patience=0.01)
    assert str(told.value) == (
        f'cannot reach the service in "{folder}": too many clients have waited for it for 0.01 s; '
        "try again, and check that it is not stopped"
    )


def test_a_service_without_an_answer_is_told(folder: Path) -> None:
    """When the service does not answer in time, the line says so."""
    with listening(folder), pytest.raises(AskError, match=r"cannot get an answer .* within 0.01 s"):
        ask(folder, Resume(), patience=0.01)


@pytest.mark.parametrize(
    ("device", "problem"),
    [("\udcff", "it is not UTF-8"), ("x" * 4075, "it has 4103 bytes; write at most 4096 bytes")],
)
def test_a_request_that_cannot_be_sent(folder: Path, device: str, problem: str) -> None:
    """A device that cannot be named in a request is refused in one line."""
    with listening(folder), pytest.raises(AskError) as told:
        ask(folder, MarkHealthy(device))
    assert str(told.value) == f"cannot send the request: {problem}"


@pytest.mark.parametrize("answer", [Answer(done=HOSTILE), Answer(error=HOSTILE)])
def test_an_answer_commands_no_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], answer: Answer
) -> None:
    """What a request named comes back as one printable line."""

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            assert requests.decode(client.recv(requests.LIMIT)) == MarkHealthy(HOSTILE)
            client.send(requests.encode(answer))

    with listening(folder) as listener, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve, listener)
        code = main(["mark-healthy", HOSTILE, f"--runtime-dir={folder}"])
        served.result(PATIENCE)
    line = "\\x1b[31m\\n\\x9b31m\\u202e\n"
    told = capsys.readouterr()
    assert (code, told.out, told.err) == ((1, "", line) if answer.error else (0, line, ""))


@pytest.mark.parametrize("text", ["x" * 5000, "\U0001f600" * 5000])
def test_a_long_answer_is_shortened(text: str) -> None:
    """An answer fits into what the client reads."""
    data = requests.encode(Answer(error=text))
    assert len(data) <= requests.LIMIT
    assert requests.decode_answer(data).error == shortened(text)
