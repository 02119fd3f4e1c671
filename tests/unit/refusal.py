"""The error message for settings that the plugin cannot use."""

from collections.abc import Mapping

import pytest

from supervisor.config.refusal import SettingsError
from supervisor.config.settings import load


def message(flags: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Return the error message that these settings cause."""
    with pytest.raises(SettingsError) as error:
        load(flags, environment)
    text = str(error.value)
    assert text.startswith("cannot ")
    assert len(text.splitlines()) == 1
    return text
