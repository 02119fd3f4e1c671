"""The exporter subclasses a class of uvicorn's that is not promised to stay as it is."""

import inspect
from importlib.metadata import version

from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.exporter.http_server import _Connection

TRIED = "0.54"
"""The minor release with which tests/process/test_exporter.py has passed."""

USED = ("connection_made", "data_received", "on_response_complete", "connection_lost")
"""What our class replaces; each calls uvicorn's own."""


def test_uvicorn_is_the_release_that_was_tried() -> None:
    """Another minor release may rename what we replace, without a word."""
    found = version("uvicorn")
    assert found.rpartition(".")[0] == TRIED, (
        f"uvicorn is {found}, but supervisor/exporter/http_server.py was tried with {TRIED}: "
        "compare _Connection with uvicorn/protocols/http/h11_impl.py, run "
        "tests/process/test_exporter.py and test_guard.py, then raise TRIED here and the bound in "
        "pyproject.toml"
    )


def test_uvicorn_has_what_we_replace() -> None:
    """A method that uvicorn no longer calls would leave slow clients connected for ever."""
    for name in USED:
        theirs, ours = getattr(H11Protocol, name, None), getattr(_Connection, name)
        assert callable(theirs), f"uvicorn's H11Protocol has no {name} any more; we replace it"
        same = (
            inspect.signature(theirs).parameters.keys() == inspect.signature(ours).parameters.keys()
        )
        assert same, f"uvicorn's H11Protocol.{name} takes other arguments than ours"
    text = inspect.getsource(H11Protocol)
    for word in ("self.app_state", "self.loop", "self.transport"):
        assert word in text, f"uvicorn's H11Protocol has no {word} any more; we read or set it"
