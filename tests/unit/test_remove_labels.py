"""What `labels --remove` says of a file that it cannot remove."""

import errno
from pathlib import Path

from proto.control import ExitCode
from proto.labels import LabelOutput, LabelSettings
from proto.safe_paths import UnsafeError
from supervisor.commands import remove_labels
from supervisor.labels import feature_file


def test_the_line_names_the_whole_path(tmp_path: Path) -> None:
    """The cause is in words, without the number that Python adds."""
    (tmp_path / "plain").touch()
    file = f"{tmp_path}/plain/labels"
    said = remove_labels.main(LabelSettings("bus", 10.0, LabelOutput.FILE, file), "")
    why = f'"{file}": Not a directory'
    assert said == (f"cannot remove the node's labels: {why}", ExitCode.FAILED)


def test_missing_rights_have_advice() -> None:
    """A folder that others can change says itself what to do."""
    denied = feature_file.trouble("/a/b", PermissionError(errno.EACCES, "Permission denied", "b"))
    assert denied == '"/a/b": Permission denied; run this as the user of the service, such as root'
    unsafe = UnsafeError("/a", "x")
    assert feature_file.trouble("/a/b", unsafe) == str(unsafe)
