"""Guards for the exporter's subclass of a uvicorn class, which may change."""

import inspect
from importlib.metadata import version

from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.exporter.http_server import _Connection

TRIED = "0.54"
"""The minor release of uvicorn that passed tests/process/test_exporter.py."""

USED = ("connection_made", "data_received", "on_response_complete", "connection_lost")
"""The methods that our class overrides; each calls uvicorn's own."""


def test_uvicorn_is_the_tested_release() -> None:
    """The installed uvicorn is the tested minor release, as others may rename methods."""
    found = version("uvicorn")
    assert found.rpartition(".")[0] == TRIED, (
        f"uvicorn is {found}, but supervisor/exporter/http_server.py was tried with {TRIED}: "
        "compare _Connection with uvicorn/protocols/http/h11_impl.py, run "
        "tests/process/test_exporter.py and test_guard.py, then raise TRIED here and the bound in "
        "pyproject.toml"
    )


def test_uvicorn_has_the_methods_that_we_override() -> None:
    """Uvicorn has the methods that we override: else slow clients stay connected for ever."""
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
