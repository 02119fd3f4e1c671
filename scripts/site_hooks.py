"""Hooks of mkdocs: pages from outside of docs, and links to files that are no pages.

A link to a file of the repository becomes one to the repository. The build stops if there is no
such file.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "ARCHITECTURE.md": "architecture.md"}
"""Files of the repository that are pages of the site too."""

LINK = re.compile(r'(\]\(|(?:src|href)=")([^)"#\s]+)?((?:#[^)"\s]*)?)([)"])')


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs, and leave out no decision."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Return the page with links as they are on the site."""
    sources = {page: source for source, page in PAGES.items()}
    here = sources.get(page.file.src_uri) or f"docs/{page.file.src_uri}"

    def changed(found: re.Match[str]) -> str:
        before, target, anchor, after = found.groups()
        if not target or "://" in target or target.startswith(("mailto:", "data:")):
            return found[0]
        return f"{before}{_place(here, target, config.repo_url, files)}{anchor}{after}"

    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", markdown, flags=re.MULTILINE | re.DOTALL)
    # Code is every second part; a link in it is only text.
    return "".join(p if n % 2 else LINK.sub(changed, p) for n, p in enumerate(parts))


def _place(here: str, target: str, repository: str, files: Files) -> str:
    """Return where *target*, a link in the file *here*, is on the site or in the repository."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
    if not (ROOT / path).exists():
        raise PluginError(f"cannot find {path}, to which {here} links")
    page = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else "")
    if not page or files.get_file_from_path(page) is None:
        return f"{repository}/blob/main/{path}"
    start = PAGES.get(here) or here.removeprefix("docs/")
    return posixpath.relpath(page, posixpath.dirname(start) or ".")
