"""The error for settings that cannot be used, and nothing but this error."""

import contextlib
from collections.abc import Iterator

from proto.texts import shortened


class SettingsError(Exception):
    """A setting cannot be used; the message is one line that names it and the cause."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message))


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn each exception in the block into a SettingsError that names *what*."""
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        # Nobody foresaw it, but one bad file must not end a service that works.
        cause = " ".join(str(error).split()) or "no message"
        raise SettingsError(f"cannot use {what}: {type(error).__name__}: {cause}") from error
