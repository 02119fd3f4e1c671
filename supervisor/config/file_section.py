"""A part of the configuration file."""

import msgspec


class Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A mapping in the configuration; an unknown key is an error."""
