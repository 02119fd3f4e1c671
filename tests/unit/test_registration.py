"""When a worker registers with the kubelet."""

import pytest

from workers.registration import Standing, delay, why

NOW = 100.0
NEW_KUBELET = "first registration with this kubelet"
NO_STREAM = "the kubelet opened no ListAndWatch stream"
SOCKET_GONE = "the worker's own socket was deleted or replaced"


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(registered=True, intact=True, streams=1, streamed=NOW), ""),
        (Standing(registered=True, intact=True, streams=1, streamed=0.0), ""),
        (Standing(registered=True, intact=True, streams=0, streamed=NOW - 5.0), ""),
        (Standing(registered=True, intact=True, streams=0, streamed=NOW - 5.1), NO_STREAM),
        (Standing(registered=False, intact=True, streams=1, streamed=NOW), NEW_KUBELET),
        (Standing(registered=False, intact=True, streams=0, streamed=0.0), NEW_KUBELET),
        (Standing(registered=True, intact=False, streams=1, streamed=NOW), SOCKET_GONE),
        (Standing(registered=False, intact=False, streams=0, streamed=0.0), NEW_KUBELET),
    ],
    ids=[
        "all is well",
        "a stream is enough",
        "the kubelet may still dial",
        "nobody listens",
        "a new kubelet",
        "never registered",
        "socket gone",
        "nothing is well",
    ],
)
def test_the_reason_to_register(standing: Standing, reason: str) -> None:
    """A worker registers only if its socket, its registration or its stream is missing."""
    assert why(standing, NOW) == reason


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 0.02), (2, 0.04), (3, 0.08), (9, 5.12), (10, 10.0), (11, 10.0), (1_000_000, 10.0)],
)
def test_delay(failures: int, seconds: float) -> None:
    """The pause between attempts to register starts at 20 ms and doubles up to 10 s."""
    assert delay(failures) == pytest.approx(seconds)
