"""Get an answer of the running service's exporter.

First over its unix socket, which is in the runtime folder: it needs neither a certificate nor a
token, and no room on the disk. Where the exporter could not create it, over HTTP.
"""

import contextlib
import http.client
import socket
import urllib.error
import urllib.request
from pathlib import Path

from proto.host import is_served
from proto.requests import SOCKET
from supervisor.commands.ask import AskError
from supervisor.runtime_folder import LOCAL_SOCKET, URL_FILE

PATIENCE = 5.0
"""Seconds for an answer; the exporter needs milliseconds."""


def fetch(runtime_folder: Path, path: str) -> bytes:
    """Return the body of the answer for *path*; raise AskError if its status is not 200."""
    try:
        return _fetch_locally(f"{runtime_folder}/{LOCAL_SOCKET}", path)
    except FileNotFoundError:
        return _fetch(_url(runtime_folder), path)


def _url(runtime_folder: Path) -> str:
    file = runtime_folder / URL_FILE
    try:
        return file.read_text().strip()
    except FileNotFoundError as error:
        if is_served(str(runtime_folder / SOCKET)):
            raise AskError(
                "cannot get the status: the service runs, but its exporter does not serve yet; "
                "the log of the service says why"
            ) from error
        raise AskError(
            f'cannot find the service in "{runtime_folder}"; '
            "check that it is running with this --runtime-dir"
        ) from error
    except OSError as error:
        raise AskError(f'cannot read "{file}": {error.strerror}') from error


def _fetch(url: str, path: str) -> bytes:
    url = f"{url}{path}"
    # Without a proxy: the service is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PATIENCE) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, error.code) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise AskError(f"cannot reach {url}: {why}; is the service running?") from error


class _Local(http.client.HTTPConnection):
    """An HTTP connection over a unix socket, which only the runtime folder's owner can open."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.host)


def _fetch_locally(file: str, path: str) -> bytes:
    """Return the body; raise FileNotFoundError if there is no such socket, otherwise AskError."""
    try:
        with contextlib.closing(_Local("localhost")) as connection:
            connection.host = file
            connection.request("GET", path, headers={"Host": "localhost"})
            answer = connection.getresponse()
            body = answer.read()
    except FileNotFoundError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise AskError(f"cannot reach unix:{file}: {error}; is the service running?") from error
    if answer.status != http.HTTPStatus.OK:
        raise _refused(f"{path} from unix:{file}", answer.status)
    return body


def _refused(what: str, status: int) -> AskError:
    return AskError(f"cannot get {what}: HTTP status {status}")
