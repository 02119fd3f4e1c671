"""The documentation as a site."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    """mkdocs, in its strict mode, accepts all pages, links and anchors."""
    done = subprocess.run(
        [ROOT / "scripts/docs", tmp_path / "site"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "site/index.html").read_text()
    assert "gpu-sharing-plugin" in home
    assert (tmp_path / "site/alerts/index.html").is_file()
    assert (tmp_path / "site/architecture/index.html").is_file()
    # The site loads nothing from other servers.
    assert "fonts.googleapis" not in home
