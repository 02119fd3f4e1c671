"""The Xids that NVML and the kernel log report: how often, who told, and their log lines."""

from collections.abc import Iterable

import msgspec

from health import kernel_verdict, log_lines
from health.forgetting import XidCounts, counted, sourced
from health.kernel_log import LoggedXid, SXid
from health.kernel_verdict import Report
from health.nvml import XidEvent
from health.witness import Heard, Key, ToldBy, Witness
from health.xid_log import Repeated, XidLog
from proto.messages import XidCount
from proto.monitor import XidPolicy
from proto.sxids import SXidCount

MOST_SXIDS = 1000
"""Different errors of switches that are counted; a node has at most 18 switches."""


class _Line(msgspec.Struct, frozen=True):
    """An Xid that has no line yet."""

    uuid: str
    event: XidEvent | LoggedXid
    news: bool
    """Whether it is the first report of its Xid."""


class XidReports:
    """Counts the Xids of all GPUs, each once, and logs them when nothing more urgent is to do."""

    def __init__(self, policy: XidPolicy) -> None:
        self._policy = policy
        self._witness = Witness()
        self._counts: XidCounts = {}
        self._log = XidLog()
        self._switch_log = XidLog()
        self._switches: dict[tuple[str, int, bool], int] = {}
        self._unlogged: list[_Line | SXid] = []

    def counts(self) -> tuple[XidCount, ...]:
        """Return how often each Xid was reported."""
        return tuple(self._counts.values())

    def sxids(self) -> tuple[SXidCount, ...]:
        """Return how often each error of an NVSwitch was reported."""
        return tuple(SXidCount(*key, count) for key, count in self._switches.items())

    def nvml(self, uuid: str, event: XidEvent, now: float, at: float) -> bool:
        """Take an event of NVML; return whether the log has not told of it. *at* is Unix time."""
        heard = self._take((uuid, event.xid), ToldBy.NVML, now, at)
        if heard.news:
            self._unlogged.append(_Line(uuid, event, news=True))
        return heard.news

    def kernel(self, uuid: str, event: LoggedXid, now: float, at: float) -> Report:
        """Take an Xid of the kernel log; return it with what NVML has told of it."""
        key = (uuid, event.xid)
        heard = self._take(key, ToldBy.KERNEL, now, at)
        self._unlogged.append(_Line(uuid, event, news=heard.news))
        return Report(event, heard.news, others=self._witness.waits(key, ToldBy.NVML))

    def switch(self, event: SXid) -> None:
        """Take an error of an NVSwitch."""
        key = (event.pci, event.sxid, event.fatal)
        if key in self._switches or len(self._switches) < MOST_SXIDS:
            self._switches[key] = self._switches.get(key, 0) + 1
        self._unlogged.append(event)

    def _take(self, key: Key, source: ToldBy, now: float, at: float) -> Heard:
        self._witness, heard = self._witness.after(key, source, now)
        if heard.news:
            self._counts = counted(self._counts, *key, at)
        self._settle(heard.settled)
        return heard

    def _settle(self, settled: Iterable[tuple[Key, ToldBy]]) -> None:
        for key, source in settled:
            self._counts = sourced(self._counts, *key, source.value)

    def log(self, now: float) -> None:
        """Log the reports since the last call, or count those that get no line of their own."""
        for line in self._unlogged:
            if isinstance(line, SXid):
                self._switch_log, alone = self._switch_log.after(line.pci, line.sxid, now)
                if alone:
                    log_lines.sxid(line)
            else:
                self._log_xid(line, now)
        self._unlogged.clear()

    def _log_xid(self, line: _Line, now: float) -> None:
        event = line.event
        if line.news:
            self._log, alone = self._log.after(line.uuid, event.xid, now)
        else:
            alone = self._log.is_told(line.uuid, event.xid)
        if not alone:
            return
        fatal = self._policy.is_fatal(event.xid)
        if isinstance(event, LoggedXid):
            fatal = kernel_verdict.is_fatal(event, self._policy)
        if line.news:
            log_lines.xid(event, line.uuid, fatal=fatal)
        if isinstance(event, LoggedXid):
            log_lines.xid_detail(event, line.uuid, fatal=fatal)

    def log_repeated(self, now: float) -> None:
        """Log the Xids that were repeated, where that is due, and settle who told of Xids."""
        self._witness, settled = self._witness.due(now)
        self._settle(settled)
        self._log, counts = self._log.due(now)
        self._switch_log, switches = self._switch_log.due(now)
        self._log_counts(counts, switches)

    def end(self, now: float) -> None:
        """Log what has not been logged yet."""
        self._log_counts(self._log.rest(now), self._switch_log.rest(now))

    def _log_counts(self, counts: Iterable[Repeated], switches: Iterable[Repeated]) -> None:
        for count in counts:
            log_lines.xid_repeated(count, fatal=self._policy.is_fatal(count.xid))
        for count in switches:
            log_lines.sxid_repeated(count)
