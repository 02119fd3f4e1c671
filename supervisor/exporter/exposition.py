"""The text of all metrics in the format that a scraper asks for.

A family whose samples are what they were keeps its text: who holds which device, and how much
memory that comes to, seldom changes between two scrapes, and is most of a scrape on a shared node.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from supervisor.exporter.family import Family, Sample
from supervisor.exporter.formats import Encode
from supervisor.exporter.metrics import by_family, metric


class _Metrics(Collector):
    """What an encoder takes."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


class Exposition:
    """Makes the text of each scrape, and keeps that of each family."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[list[Sample], bytes]] = {}
        """By content type and name of the family."""

    def body(self, samples: Iterable[Sample], encode: Encode, kind: str) -> bytes:
        """Return the text of these samples in the format of *encode*, whose content type is *kind*.

        Each family has its description, also without samples.
        """
        end = encode(_Metrics())  # that of OpenMetrics; the plain text has none
        parts = [
            self._text(family, found, encode, kind).removesuffix(end)
            for family, found in by_family(samples)
        ]
        return b"".join((*parts, end))

    def _text(self, family: Family, samples: list[Sample], encode: Encode, kind: str) -> bytes:
        before, text = self._kept.get((kind, family.name), (None, b""))
        if samples != before:
            text = encode(_Metrics(metric(family, samples)))
            self._kept[kind, family.name] = samples, text
        return text
