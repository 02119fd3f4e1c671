"""When a fault may be forgotten."""

import enum

import msgspec


class RecoveryMode(enum.StrEnum):
    """Whether devices recover by themselves."""

    PROOF = "proof"
    """As soon as the fault is proven to be gone."""
    NEVER = "never"
    """By a reboot only."""


class Recovery(msgspec.Struct, frozen=True):
    """How recovery is proven."""

    mode: RecoveryMode = RecoveryMode.PROOF
    quiet_period: float = 30.0
    """Seconds without a fatal event after the proof, doubled at each relapse."""
    probes: int = 3
    """Proofs in a row."""
