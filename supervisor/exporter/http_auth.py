"""Who may ask the exporter: TLS, clients' certificates and a token, as far as they are wanted."""

import hmac
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from proto.exporter import HttpGuard
from proto.host import Identity
from supervisor.exporter.http_server import Request

SHORTEST = 16
"""Characters of a token, from which on it cannot be guessed over a network."""


class GuardError(Exception):
    """A file cannot be used; one line, without anything of what is in it."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What was read of the files, and when they were made."""

    files: HttpGuard
    context: ssl.SSLContext | None
    """None: plain HTTP."""
    token: str = field(repr=False)
    stamps: tuple[Identity | None, ...]

    def permits(self, request: Request) -> bool:
        """Return whether more than the probes' verdict may be told."""
        if request.local:
            return True  # over a socket that only we and root can open
        if self.files.client_ca and not request.certified:
            return False
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        borne = scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), self.token.encode()
        )
        return borne or not self.token

    def is_old(self) -> bool:
        """Return whether a file is another than when it was read."""
        return _stamps(self.files) != self.stamps


def read(files: HttpGuard) -> Guard:
    """Read the *files*; GuardError where one is missing or no good."""
    stamps = _stamps(files)  # before they are read: a change in the middle of that is one more
    return Guard(files, _context(files), _token(files.token_file), stamps)


def _context(files: HttpGuard) -> ssl.SSLContext | None:
    if not files.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
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
        # Not required: a kubelet's probe has no certificate, and is told nothing but yes or no.
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _no_password() -> str:
    # Else OpenSSL would ask on the terminal, and wait.
    raise ValueError("the key is encrypted; give one that is not")


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
    """Return what tells files from others; a Secret is another file after each change."""
    return tuple(
        Identity.of(path)
        for path in (files.certificate, files.key, files.client_ca, files.token_file)
        if path
    )
