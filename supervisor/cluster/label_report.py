"""What the supervisor is told of the node's configuration label."""

import re

from proto.cluster import Labelled, Unlabelled
from proto.texts import NAME_LIMIT, shortened

LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
"""What Kubernetes allows as the value of a label."""


def told(value: str) -> Labelled | Unlabelled:
    """Return the report of a label's *value*; a value that no label can have chooses no file."""
    if LABEL.fullmatch(value):
        return Labelled(value)
    shown = shortened(value, NAME_LIMIT)
    return Unlabelled(f'the API server sent the value "{shown}", which no label can have')
