"""What /livez and /readyz answer: why the service is not alive, or not ready for pods."""

from supervisor.status.snapshot import Snapshot

SUPERVISOR_SILENT = 10.0
"""Seconds without a word from the supervisor, which speaks every second at the end of a turn of its
loop, until the service counts as not live."""


def not_live(snapshot: Snapshot, now: float, stale_after: float) -> list[str]:
    """Return why the service is not live.

    The state of GPUs, kubelet and driver does not matter, unless only a new container can help.
    """
    if snapshot.service is None or now - snapshot.service_at > SUPERVISOR_SILENT:
        return ["supervisor: no heartbeat"]
    starting = {child.name for child in snapshot.service.processes if child.state == "starting"}
    problems = []
    if snapshot.service.exits:
        problems.append(f"supervisor: exits soon to get a new container: {snapshot.service.exits}")
    for resource, word in snapshot.planned_workers().items():
        if f"worker {resource}" in starting:
            continue  # the supervisor limits the time for a start
        if word is None or now - word[1] > stale_after:
            problems.append(f"worker {resource}: no heartbeat")
        elif not word[0].answering:
            problems.append(f"worker {resource}: does not answer on its own socket")
    return problems


def not_ready(snapshot: Snapshot, now: float, stale_after: float) -> list[str]:
    """Return why pods cannot get the planned resources; the health of GPUs does not matter."""
    problems = not_live(snapshot, now, stale_after)
    if problems or snapshot.service is None:
        return problems
    if snapshot.service.planned is None:
        return [snapshot.service.problem or "monitor: GPUs not listed yet"]
    problems = [f"{p.kind}: {p.text}" for p in snapshot.service.problems if p.fatal]
    for resource, word in snapshot.planned_workers().items():
        if word is None:
            problems.append(f"{resource}: its worker is still starting")
        elif not word[0].registered:
            problems.append(f"{resource}: not registered with the kubelet")
        elif not word[0].streams:
            problems.append(f"{resource}: the kubelet has no ListAndWatch stream open")
    return problems
