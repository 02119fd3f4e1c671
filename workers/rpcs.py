"""Counts the calls of the device plugin API, their durations and their errors."""

import asyncio
import bisect
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import grpc

from proto.messages import RPC_BUCKETS, RpcStats

CODES = {code.value[0]: code.name for code in grpc.StatusCode}
"""Names of gRPC status codes by number; an aborted context has only the number."""


class _Method:
    def __init__(self) -> None:
        self.counts = [0] * (len(RPC_BUCKETS) + 1)
        """Calls by the smallest bucket that they fit into; the last bucket has the slower ones."""
        self.seconds = 0.0
        self.errors: Counter[str] = Counter()

    def stats(self, name: str) -> RpcStats:
        total, cumulative = 0, []
        for count in self.counts:
            total += count
            cumulative.append(total)
        return RpcStats(name, tuple(cumulative), self.seconds, dict(self.errors))


class Rpcs:
    """Counts calls since the worker's start."""

    def __init__(self) -> None:
        self._methods: defaultdict[str, _Method] = defaultdict(_Method)

    @contextlib.contextmanager
    def counted(self, name: str, context: object) -> Iterator[None]:
        """Count and time the block as one call of method *name*."""
        method = self._methods[name]
        began = time.perf_counter()
        try:
            yield
        except asyncio.CancelledError:
            method.errors["CANCELLED"] += 1
            raise
        except Exception:
            method.errors[_code(context)] += 1
            raise
        finally:
            took = time.perf_counter() - began
            method.counts[bisect.bisect_left(RPC_BUCKETS, took)] += 1
            method.seconds += took

    def stats(self) -> tuple[RpcStats, ...]:
        """Return the counts of all methods that were called."""
        return tuple(method.stats(name) for name, method in self._methods.items())


def _code(context: Any) -> str:
    """Return the status code of a failed call; for a crash gRPC answers UNKNOWN."""
    code = context.code()
    return CODES.get(code, "UNKNOWN") if isinstance(code, int) else str(code.name)
