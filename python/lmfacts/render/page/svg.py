"""matplotlib's SVG made fit to stand in a page: small, with ids of its own, in the page's font."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from lmfacts.writing.visible_text import visible, visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

__all__ = ["cleaned", "standalone"]

_NUMBER: Final = re.compile(r"-?\d+\.\d+(?:e[-+]?\d+)?")
_REFERENCE: Final = re.compile(r"url\(#([^)]+)\)")
_NO_ROTATION: Final = re.compile(r"rotate\(-?0(?:\.0*)?[ )]")
_DROPPED_STYLES: Final = {"font-family", "stroke-linecap", "stroke-linejoin", "font-stretch", "font-variant"}


def cleaned(svg: str, name: str) -> str:
    """A drawing of matplotlib's without what a page does not need.

    Coordinates are rounded to a tenth of a pixel, fonts are the page's, ids are `NAME-1`, `NAME-2`, ..., and only those
    that something refers to are kept.

    Args:
        svg: what matplotlib wrote, in which text is text (`svg.fonttype` none).
        name: unique on the page.

    Returns:
        An `<svg>` element with `viewBox` and `class`, without XML declaration and namespaces.
    """
    root = ET.fromstring(visible(svg))  # noqa: S314  matplotlib wrote it
    _strip_namespaces(root)
    ids = {identifier: f"{name}-{number}" for number, identifier in enumerate(dict.fromkeys(_references(root)), 1)}
    for element in root.iter():
        _clean(element, ids)
    for parent in reversed(list(root.iter())):  # children before their parents
        _flatten(parent)
    view_box = " ".join(str(round(float(size))) for size in root.attrib["viewBox"].split())
    root.attrib.clear()
    root.attrib.update({"viewBox": view_box, "class": "drawing"})
    return ET.tostring(root, encoding="unicode")


def standalone(svg: str, alt: str) -> str:
    """A cleaned drawing as a file of its own, on white."""
    root = ET.fromstring(svg)  # noqa: S314  matplotlib wrote it
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.pop("class", None)
    root.attrib.update(
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": width,
            "height": height,
            "role": "img",
            "aria-label": visible_line(alt),
            "font-family": "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif",
            "stroke-linejoin": "round",
        }
    )
    style = ET.Element("style")
    style.text = "text{paint-order:stroke;stroke:#fff;stroke-width:2.5px}"
    background = ET.Element("rect", {"width": width, "height": height, "fill": "#ffffff"})
    root[:0] = [style, background]
    return ET.tostring(root, encoding="unicode") + "\n"


def _strip_namespaces(root: Element) -> None:
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.tail = None
        if element.tag not in {"text", "tspan"}:
            element.text = None


def _references(root: Element) -> Iterator[str]:
    for element in root.iter():
        if element.attrib.get("href", "").startswith("#"):
            yield element.attrib["href"][1:]
        yield from _REFERENCE.findall(element.attrib.get("clip-path", ""))


def _clean(element: Element, ids: dict[str, str]) -> None:
    attributes = element.attrib
    identifier = attributes.pop("id", None)
    if identifier in ids:
        attributes["id"] = ids[identifier]
    if "href" in attributes:
        attributes["href"] = "#" + ids[attributes["href"][1:]]
    if "clip-path" in attributes:
        attributes["clip-path"] = _REFERENCE.sub(lambda m: f"url(#{ids[m[1]]})", attributes["clip-path"])
    if "style" in attributes:
        styles = [style.split(":", 1) for style in attributes.pop("style").split(";") if ":" in style]
        kept = [
            f"{key.strip()}:{_rounded(value.strip(), 2)}" for key, value in styles if key.strip() not in _DROPPED_STYLES
        ]
        if kept:
            attributes["style"] = ";".join(kept)
    if _NO_ROTATION.match(attributes.get("transform", "")):
        del attributes["transform"]
    for key in ("d", "x", "y", "width", "height", "transform", "cx", "cy"):
        if key in attributes:
            attributes[key] = _rounded(" ".join(attributes[key].split()))


def _flatten(parent: Element) -> None:
    """Put the children of groups that say nothing in the place of the group; leave out what is never drawn."""
    children: list[Element] = []
    for child in parent:
        if child.tag in {"metadata", "style"} or (child.tag in {"g", "defs"} and not len(child)):
            continue
        children += list(child) if child.tag == "g" and not child.attrib else [child]
    for child in list(parent):
        parent.remove(child)
    parent.extend(children)


def _rounded(text: str, decimals: int = 1) -> str:
    """A text whose numbers have so many decimals."""
    return _NUMBER.sub(lambda match: f"{round(float(match[0]), decimals) + 0.0:.6g}", text)
