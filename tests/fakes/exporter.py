"""An HTTP server in place of the exporter, for a busy node or for unusual answers."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from supervisor.exporter import pages
from tests.fakes import showcase, showcase_usage

Answer = tuple[int, bytes, tuple[tuple[str, str], ...]]


def busy(path: str) -> Answer:
    """Return the exporter's answer for a busy node."""
    now = time.monotonic()
    known = showcase.snapshot(now, time.time())
    if path not in {"/", "/status"}:
        return 404, b"", ()
    answer = pages.shown(
        path, pages.render(path, known, showcase.ABOUT, showcase_usage.history(now))
    )
    return 200, answer.body, tuple(answer.headers)


@contextlib.contextmanager
def exporter(answers: Callable[[str], Answer]) -> Iterator[str]:
    """Serve the answers that *answers* returns by path; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body, headers = answers(self.path)
            self.send_response(code)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
