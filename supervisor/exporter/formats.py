"""The formats of metrics that a scraper can ask for."""

from collections.abc import Callable
from itertools import product

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

Encode = Callable[[Collector], bytes]

_ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")

_KINDS = frozenset(
    choose_encoder(accept)[1]
    for accept in (
        "",
        "application/openmetrics-text",
        *(
            f"{kind};version=1.0.0;escaping={escaping}"
            for kind, escaping in product(
                ("application/openmetrics-text", "text/plain"), _ESCAPINGS
            )
        ),
    )
)
"""The content types that we answer with: few, as each has a body of its own."""


def choose(accept: str) -> tuple[Encode, str]:
    """Return the encoder and the content type for an Accept header; malformed: plain text."""
    try:
        encode, kind = choose_encoder(accept)
    except (TypeError, ValueError):  # for versions such as 1.x or x
        kind = ""
    return (encode, kind) if kind in _KINDS else choose_encoder("")
