"""A stand-in for `kubectl proxy`: an API server with the plugin's pods, on a unix socket.

The folder of the program has pods.json, a list of pods, and the answer of each node, NODE.http: the
bytes of a whole HTTP response, or nothing, and then the node never answers.
"""

import json
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

FOLDER = Path(sys.argv[0]).parent
PAGE = 3
"""Most pods in one answer, whatever the client asks for."""


class Handler(BaseHTTPRequestHandler):
    """Answers for the API server, and for the pods behind it."""

    def do_GET(self) -> None:
        """Answer the list of pods, or what the pod of a node answers."""
        path = urllib.parse.urlsplit(self.path)
        if not path.path.endswith("/status"):
            self._pods(dict(urllib.parse.parse_qsl(path.query)))
            return
        node = path.path.split("/pods/")[1].split(":")[1].removeprefix("plugin-")
        if answer := (FOLDER / f"{node}.http").read_bytes():
            self.wfile.write(answer)
        else:
            threading.Event().wait()

    def _pods(self, query: dict[str, str]) -> None:
        refusal = FOLDER / "refusal.http"
        if refusal.exists():
            self.wfile.write(refusal.read_bytes())
            return
        pods: list[Any] = json.loads((FOLDER / "pods.json").read_text())
        if node := query.get("fieldSelector", "").removeprefix("spec.nodeName="):
            pods = [pod for pod in pods if pod["spec"]["nodeName"] == node]
        start = int(query.get("continue", 0))
        end = start + PAGE
        more = {"continue": str(end)} if end < len(pods) else {}
        body = json.dumps({"metadata": more, "items": pods[start:end]}).encode()
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingUnixStreamServer):
    """Ends although a node still does not answer."""

    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    if "--context=nowhere" in sys.argv:
        sys.exit('error: context "nowhere" does not exist')
    SOCKET = next(a for a in sys.argv if a.startswith("--unix-socket=")).partition("=")[2]
    with Server(SOCKET, Handler) as server:
        print(f"Starting to serve on {SOCKET}", flush=True)  # noqa: T201 - as kubectl does
        server.serve_forever()
