"""Builds HTML as a tree, so that text from outside is always escaped."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

Content = Element | str | None


def element(tag: str, /, *content: Content, **attributes: str) -> Element:
    """Return an element; None is skipped, `class_` sets the attribute class, `_` becomes `-`."""
    made = Element(
        tag, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    )
    last: Element | None = None
    for part in content:
        if isinstance(part, Element):
            made.append(part)
            last = part
        elif part is not None and last is None:
            made.text = (made.text or "") + part
        elif part is not None and last is not None:
            last.tail = (last.tail or "") + part
    return made


def table(head: Iterable[str], rows: Iterable[Iterable[Content]]) -> Element:
    """Return a table; the first column is the heading of its row."""
    titles = (element("th", title, scope="col") for title in head)
    lines = (
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
        for first, *rest in rows
    )
    return element("table", element("thead", element("tr", *titles)), element("tbody", *lines))


def document(root: Element) -> str:
    """Return *root* as an HTML page; all text is escaped except in style and script."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
