"""Replace those patterns of h11 that take quadratic time for the lines of a hostile client.

h11 0.16 tries each way to divide blanks between parts of a pattern: 16 KiB of them in one header
take 1.6 s. These patterns match the same lines, but have one way only, by possessive quantifiers.
"""

import re

from h11 import _readers

NAME = rb"(?P<field_name>[-!#$%&'*+.^_`|~0-9a-zA-Z]++)"
TEXT = rb"[^\x00\s]++"
VALUE = rb"(?P<field_value>(?:%b(?:[ \t]++%b)*+)?+)" % (TEXT, TEXT)
SIZE = rb"(?P<chunk_size>[0-9A-Fa-f]{1,20}+)"

HEADER_FIELD = re.compile(rb"%b:[ \t]*+%b[ \t]*+" % (NAME, VALUE))
CHUNK_HEADER = re.compile(rb"%b(?P<chunk_ext>;[^\r\n]*+)?+[ \t]*+\r\n" % SIZE)
"""Unlike h11's, without a bare CR in the extension."""


def use() -> None:
    """Make h11 use the patterns, in all connections of this process."""
    _readers.header_field_re = HEADER_FIELD
    _readers.chunk_header_re = CHUNK_HEADER
