"""The queries of the documentation, on a real Prometheus with nodes as they are documented."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.daemon import wait_until
from tests.e2e.prometheus import ROOT, Prometheus, Sample

pytestmark = pytest.mark.e2e

QUERIES = {
    f"{page.name} {number}": query
    for page in sorted((ROOT / "docs").glob("*.md"))
    for number, query in enumerate(re.findall(r"```promql\n(.*?)```", page.read_text(), re.DOTALL))
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Run Prometheus on a target with the series of a node, DCGM and kube-state-metrics."""
    body = Path(__file__).with_name("exposition.txt").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            folder = tmp_path_factory.mktemp("prometheus")
            running = Prometheus(folder, f"127.0.0.1:{web.server_port}", honor_labels=True)
            try:
                query = "gpu_sharing:device_gpu"
                wait_until(lambda: running.query(query), 30, "the rules have been evaluated")
                yield running
            finally:
                running.stop()
        finally:
            web.shutdown()
            thread.join()


def by_pod(found: list[Sample]) -> dict[str, float]:
    """Return the values by the pods' names."""
    return {sample.labels["pod"]: sample.value for sample in found}


@pytest.mark.parametrize("name", QUERIES)
def test_a_documented_query_succeeds_and_finds_something(prometheus: Prometheus, name: str) -> None:
    """Each query has a result where there is what it looks for, on a node with MIG too."""
    assert prometheus.query(QUERIES[name])


def test_dcgm_by_pod_with_mig(prometheus: Prometheus) -> None:
    """A pod on a MIG instance gets the GPU's value, and in the other join that of its instance."""
    joins = [q for q in QUERIES.values() if "DCGM" in q]
    whole, instance = (by_pod(prometheus.query(query)) for query in joins)
    assert whole == {"whole": 40, "small-1": 50, "small-2": 50}
    assert instance == {"small-1": 0.1, "small-2": 0.2}


def test_the_model_of_a_broken_instance(prometheus: Prometheus) -> None:
    """The query for reasons tells the GPU of a MIG instance."""
    (query,) = (q for q in QUERIES.values() if q.startswith("gpu_sharing_device_unhealthy_reason"))
    found = {
        s.labels["uuid"]: (s.labels["index"], s.labels["model"]) for s in prometheus.query(query)
    }
    assert found == {"GPU-0": ("0", "H100"), "MIG-1": ("1", "A100")}
