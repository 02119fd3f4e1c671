"""Build HTML as a tree, so that whatever comes from outside is escaped when it is written."""

from xml.etree.ElementTree import Element, tostring

Content = Element | str | None


def element(tag: str, /, *content: Content, **attributes: str) -> Element:
    """Return an element; None is left out, `class_` is the attribute class, `_` in names is `-`."""
    made = Element(
        tag, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    )
    last: Element | None = None
    for one in content:
        if isinstance(one, Element):
            made.append(one)
            last = one
        elif one is not None and last is None:
            made.text = (made.text or "") + one
        elif one is not None and last is not None:
            last.tail = (last.tail or "") + one
    return made


def document(root: Element) -> str:
    """Return *root* as an HTML page; only the text of style and script stays as it is."""
    return "<!doctype html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
