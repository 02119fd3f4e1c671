"""Programs and libraries that run with our rights: refused if another user can change them."""

import os
from pathlib import Path

import pytest

from health import binding
from health.platform_files import LIBRARY
from proto.safe_paths import UnsafeError, require_safe_program

NOBODY = 65534


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """Return a program that only we can change, found by a link."""
    (tmp_path / "bin").mkdir(0o755)
    (tmp_path / "lib").mkdir(0o755)
    (tmp_path / "lib/tool").touch(0o755)
    (tmp_path / "lib/tool").chmod(0o755)
    (tmp_path / "bin/tool").symlink_to("../lib/tool")
    return tmp_path / "bin/tool"


def test_a_program_that_only_we_can_change_is_safe(tool: Path) -> None:
    """A program that only root and we can change is accepted, also by a link."""
    require_safe_program(tool)


@pytest.mark.parametrize("rights", [0o002, 0o020], ids=["all", "group"])
@pytest.mark.parametrize("part", ["bin", "lib", "lib/tool", "."])
def test_a_program_that_others_can_write_to_is_refused(
    tmp_path: Path, tool: Path, part: str, rights: int
) -> None:
    """A program is refused if others can write to it, or to a folder above it or above a link."""
    open_to_others = tmp_path / part
    open_to_others.chmod(0o755 | rights)
    with pytest.raises(UnsafeError) as refused:
        require_safe_program(tool)
    assert str(refused.value) == (
        f'cannot use "{tool}": other users can write to "{open_to_others}"; '
        f'run chmod go-w "{open_to_others}"'
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("part", ["bin", "lib", "lib/tool", "bin/tool", "."])
def test_a_program_of_another_user_is_refused(tmp_path: Path, tool: Path, part: str) -> None:
    """A program is refused if another user owns it, a folder above it, or a link to it."""
    os.chown(tmp_path / part, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(UnsafeError, match=f'"{tmp_path / part}" belongs to another user'):
        require_safe_program(tool)


@pytest.mark.parametrize("place", ["usr/lib64", "usr/lib/wsl/lib", "usr/lib/wsl/drivers/nv.inf_1"])
def test_a_driver_library_that_others_can_change_is_not_loaded(tmp_path: Path, place: str) -> None:
    """NVML below the driver root is not loaded if others can change it: its code runs as root."""
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / LIBRARY).touch()
    (folder / "libcuda.so.1.1").touch()
    folder.chmod(0o777)
    with pytest.raises(UnsafeError, match=f'other users can write to "{folder}"'):
        binding.load(str(tmp_path))
