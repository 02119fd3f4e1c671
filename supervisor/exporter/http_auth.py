"""Who may read from the exporter: optional TLS, client certificates and a bearer token."""

import hmac
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from proto.exporter import HttpGuard
from proto.host import Identity
from supervisor.exporter.messages import Request

SHORTEST = 16
"""Minimum characters of a token; shorter tokens could be guessed over the network."""


class GuardError(Exception):
    """A file cannot be used; the message is one line and shows nothing of the file's content."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The contents of the files, and the files' identities when they were read."""

    files: HttpGuard
    context: ssl.SSLContext | None
    """None for plain HTTP."""
    token: str = field(repr=False)
    stamps: tuple[Identity | None, ...]

    def permits(self, request: Request) -> bool:
        """Return whether *request* may read more than the verdicts of the probes."""
        if request.local:
            return True  # came over a socket that only root and our user can open
        if self.files.client_ca and not request.certified:
            return False
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        borne = scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self.token.encode()
        )
        return borne or not self.token

    def is_old(self) -> bool:
        """Return whether a file has changed since it was read."""
        return _stamps(self.files) != self.stamps


def read(files: HttpGuard) -> Guard:
    """Read the *files*; raise GuardError if one is missing or invalid."""
    stamps = _stamps(files)  # before reading: a change during the read counts as a change
    return Guard(files, _context(files), _token(files.token_file), stamps)


def _context(files: HttpGuard) -> ssl.SSLContext | None:
    if not files.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.num_tickets = 1
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        why = _why(error)
        raise GuardError(
            f'cannot use --metrics-tls-cert "{files.certificate}" with its key "{files.key}": {why}'
        ) from error
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise GuardError(
                f'cannot use --metrics-client-ca "{files.client_ca}": {_why(error)}'
            ) from error
        # Not required: the kubelet's probes have no certificate, and get only the verdict.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, and block.
    raise ValueError("the key is encrypted; use a key without a password")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error)
    return getattr(error, "strerror", None) or str(error)


def _token(path: str) -> str:
    if not path:
        return ""
    try:
        token = Path(path).read_text().strip()
    except (OSError, ValueError) as error:
        raise GuardError(f'cannot read --metrics-token-file "{path}": {_why(error)}') from error
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable():
        raise GuardError(
            f'cannot use --metrics-token-file "{path}": write a token of {SHORTEST} or more '
            "ASCII characters"
        )
    return token


def _stamps(files: HttpGuard) -> tuple[Identity | None, ...]:
    """Return the identities of the files; a changed Secret is a new file."""
    return tuple(
        Identity.of(path)
        for path in (files.certificate, files.key, files.client_ca, files.token_file)
        if path
    )
