"""Guards for the exporter's subclass of a uvicorn class, which may change."""

import inspect
from importlib.metadata import version

from uvicorn.protocols.http import flow_control, h11_impl
from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.exporter.connection import Connection

TRIED = "0.54"
"""The minor release of uvicorn that passed tests/process/test_exporter.py."""

USED = (
    "connection_made",
    "data_received",
    "eof_received",
    "on_response_complete",
    "resume_writing",
    "connection_lost",
)
"""The methods that our class overrides; each but eof_received calls uvicorn's own."""


def test_uvicorn_is_the_tested_release() -> None:
    """The installed uvicorn is the tested minor release, as others may rename methods."""
    found = version("uvicorn")
    assert found.rpartition(".")[0] == TRIED, (
        f"uvicorn is {found}, but supervisor/exporter/connection.py was tried with {TRIED}: "
        "compare Connection with uvicorn/protocols/http/h11_impl.py, run "
        "tests/process/test_exporter.py and test_guard.py, then raise TRIED here and the bound in "
        "pyproject.toml"
    )


def test_uvicorn_has_the_methods_that_we_override() -> None:
    """Uvicorn has the methods that we override: else slow clients stay connected for ever."""
    for name in USED:
        theirs, ours = getattr(H11Protocol, name, None), getattr(Connection, name)
        assert callable(theirs), f"uvicorn's H11Protocol has no {name} any more; we replace it"
        same = (
            inspect.signature(theirs).parameters.keys() == inspect.signature(ours).parameters.keys()
        )
        assert same, f"uvicorn's H11Protocol.{name} takes other arguments than ours"
    text = inspect.getsource(h11_impl) + inspect.getsource(flow_control)
    words = ("app_state", "conn", "cycle", "flow", "loop", "scheme", "transport")
    for word in (*(f"self.{name}" for name in words), "write_paused"):
        assert word in text, f"uvicorn's H11Protocol has no {word} any more; we read or set it"
