"""matplotlib's SVG made one that people and pages can work with.

Ids, each with the prefix that the caller names:

    figure--latency         class figure               by the chart's name
    axes--1                 class axes
    title--main             class title                subtitle--main beside it, class subtitle
    label--x, label--y      class xlabel, ylabel
    grid-x--1, grid-y--1 …  class grid grid-x, grid grid-y
    series--<slug>          class series family--<family> mode--<mode>; data-variant, data-family, data-mode. In it the
                            classes leader, band, line, inner and value, and of each point class point with data-seq,
                            data-workload, data-value, data-low, data-high, data-x and data-inner, in the chart's units,
                            and of a history data-told; classes event event--<versions, regressed or improved> beside it
    legend                  class legend
    legend-label--<slug>    class legend-label; data-series is the id of its series, data-variant the whole name
    key                     class key; in it the classes key-family, key-mode and key-event

Colours and fonts are presentation attributes, never `style`: a page's CSS overrides them, and a content security policy
that forbids inline styles leaves them alone. Ink is `currentColor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from attnbench import printable
from attnbench.fingerprint import slug
from attnbench.report import marks
from attnbench.report.charts.chart import DOTS, HISTORY, PAIRS, Chart, Point, Series

SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
#: A viewer has its own fonts: those of the system, all of them about as wide as the one that was measured, or narrower.
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"
#: Size of most text in pixels.
FONT = 10.0
#: Of a file of its own: ink by the viewer's preference. Without it `currentColor` is black.
STYLE = (
    f".figure{{color:{marks.INK}}}"
    f"@media (prefers-color-scheme:dark){{.figure{{color:{marks.DARK_INK}}}}}"
    "@media print{.figure{color:#000}}"
)
#: What a series consists of, in the order in which it is painted.
_EVENTS = ("versions", "regressed", "improved")
_PARTS = ("leader", "band", "line", "inner", *(f"event event--{one}" for one in _EVENTS), "point", "value")
#: matplotlib's circle: eight curves from its lowest point.
_CIRCLE = re.compile(r"M 0 ([\d.]+)\s+C ")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
#: A path's letters need no blanks around them.
_COMMAND = re.compile(r" ?([A-Za-z]) ?")
#: What says nothing: what is so anyway.
_USUAL = {
    ("text-anchor", "start"),
    ("font-size", f"{FONT:.0f}px"),
    ("fill", "currentColor"),
    ("stroke-dashoffset", "0"),
}
_FONT = re.compile(r"(?:(?:normal|italic|oblique|\d+|bold)\s+)*([\d.]+px)\s+.*")


@dataclass(frozen=True)
class Shapes:
    """What matplotlib drew: the size in pixels, and by id of `plots` its shapes, flat, with presentation attributes."""

    width: str
    height: str
    parts: dict[str, list[ET.Element]]


def shapes_of(raw: bytes) -> Shapes:
    """The shapes of an SVG that `plots` had matplotlib draw."""
    drawn = ET.fromstring(raw)
    parts: dict[str, list[ET.Element]] = {}
    for gid, shapes in _parts(drawn):
        parts.setdefault(gid, []).extend(shapes)
    width, height = drawn.get("viewBox", "0 0 0 0").split()[2:]
    return Shapes(width, height, parts)


def rewritten(shapes: Shapes, chart: Chart, prefix: str, standalone: bool) -> str:
    """The SVG of `chart` in its final form, from the shapes that matplotlib drew; the same ones may be used again.

    prefix: put before every id. standalone: with an XML declaration and a style of its own.
    """
    width, height, parts = shapes.width, shapes.height, shapes.parts
    root = ET.Element("svg", {"xmlns": SVG, "viewBox": f"0 0 {width} {height}", "class": "plot"})
    title = f"{prefix}figure--{chart.name}--title"
    root.attrib.update(width=width, height=height, role="img" if standalone else "group")
    root.set("aria-labelledby", title)
    _text(root, "title", f"{chart.title} · {chart.subtitle}").set("id", title)
    _text(root, "desc", " ".join((_in_words(chart), *chart.notes)))
    if standalone:
        _text(root, "style", STYLE)
    figure = _group(root, f"{prefix}figure--{chart.name}", "figure")
    figure.attrib.update(
        {"font-family": FONTS, "font-size": f"{FONT:.0f}px", "stroke-linejoin": "round", "fill": "currentColor"}
    )
    axes = _group(figure, f"{prefix}axes--1", "axes")
    _copy(axes, parts, "frame|x", "", "frame")
    for axis in "xy":
        for gid in (one for one in parts if one.startswith(f"grid-{axis}|")):
            _copy(axes, parts, gid, f"{prefix}grid-{axis}--{gid.split('|')[1]}", f"grid grid-{axis}")
        for gid in (one for one in parts if one.startswith(f"tick-{axis}|")):
            _copy(axes, parts, gid, "", f"tick tick-{axis}")
    _copy(axes, parts, "guide|1", "", "guide")
    for gid in (one for one in parts if one.startswith("roof|")):
        _copy(axes, parts, gid, "", "guide roof")
    _copy(axes, parts, "label|x", f"{prefix}label--x", "xlabel")
    _copy(axes, parts, "label|y", f"{prefix}label--y", "ylabel")
    for one in reversed(chart.series):
        _add_series(axes, parts, chart, one, prefix)
    legend = _group(figure, f"{prefix}legend", "legend")
    for one in chart.series:
        _add_label(legend, parts, one, prefix)
    _add_key(figure, parts, prefix)
    _copy(figure, parts, "title|main", f"{prefix}title--main", "title")
    _copy(figure, parts, "subtitle|main", f"{prefix}subtitle--main", "subtitle")
    text = ET.tostring(root, "unicode").replace(" />", "/>") + "\n"  # `>` in a text is written as an entity
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}' if standalone else text


def _parts(root: ET.Element) -> Iterator[tuple[str, list[ET.Element]]]:
    """What was drawn under each id of `plots` (they hold a `|`), flat, with presentation attributes."""
    # A marker is defined where it is used first, and may be used from any group that follows.
    markers = {one.get("id", ""): one for one in root.iterfind(f".//{{{SVG}}}defs/{{{SVG}}}path")}
    for group in root.iter(f"{{{SVG}}}g"):
        gid = group.get("id", "")
        if "|" in gid:
            yield gid, list(_shapes(group, markers))


def _shapes(group: ET.Element, markers: Mapping[str, ET.Element]) -> Iterator[ET.Element]:
    for one in group.iter():
        name = one.tag.rpartition("}")[2]
        if name == "path" and one.get("id") not in markers:
            yield ET.Element("path", {"d": _path(one.get("d", "")), **_attributes(one)})
        elif name == "use":  # a marker, which is written where it stands: no id to collide with another plot's
            shape = markers[one.get(_HREF, "")[1:]]
            place = {"transform": _flat(f"translate({one.get('x')} {one.get('y')})")}
            style = {**_attributes(shape), **_attributes(one)}
            if circle := _CIRCLE.match(shape.get("d", "")):
                at = {"cx": _flat(one.get("x", "0")), "cy": _flat(one.get("y", "0")), "r": _flat(circle[1])}
                yield ET.Element("circle", {**at, **style})
                continue
            yield ET.Element("path", {"d": _path(shape.get("d", "")), **place, **style})
        elif name == "text":
            text = ET.Element("text", _attributes(one))
            text.text = "".join(one.itertext()).strip("\n")
            yield text


def _attributes(element: ET.Element) -> dict[str, str]:
    """Style declarations as presentation attributes, and the place of a text."""
    attributes: dict[str, str] = {}
    if element.tag.rpartition("}")[2] != "use":
        attributes.update(
            (name, _flat(element.attrib[name])) for name in ("x", "y", "transform") if name in element.attrib
        )
    for declaration in element.get("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # the shorthand is no presentation attribute
            attributes["font-size"] = _FONT.sub(r"\1", value)
            if value.startswith(("700", "bold")):
                attributes["font-weight"] = "700"
        elif name and name != "font-family":
            attributes[name] = "currentColor" if value == marks.INK else value
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    return {name: value for name, value in attributes.items() if (name, value) not in _USUAL}


def _add_series(axes: ET.Element, parts: dict[str, list[ET.Element]], chart: Chart, one: Series, prefix: str) -> None:
    classes = f"series family--{slug(one.family) or 'other'} mode--{slug(one.mode) or 'other'}"
    group = _group(axes, f"{prefix}series--{one.slug}", classes)
    group.attrib.update(_data(variant=one.name, family=one.family, mode=one.mode))
    shown = chart_points(chart, one)
    for name in _PARTS:
        if name == "point":
            for at, point in enumerate(shown):
                for shape in parts.get(f"series|{one.slug}|point|{at}", ()):
                    shape.set("class", "point")
                    shape.attrib.update(_point_data(point))
                    group.append(shape)
        else:
            _copy(group, parts, f"series|{one.slug}|{name}", "", name)


def _add_label(legend: ET.Element, parts: dict[str, list[ET.Element]], one: Series, prefix: str) -> None:
    group = _group(legend, f"{prefix}legend-label--{one.slug}", "legend-label")
    group.attrib.update(_data(series=f"{prefix}series--{one.slug}", variant=one.name))
    for name in ("swatch", "marker", "text"):
        group.extend(parts.get(f"legend-label|{one.slug}|{name}", ()))
    if printable.message(one.name) not in "".join(group.itertext()):  # it was cut: the whole name on hover
        full = ET.Element("title")
        full.text = printable.message(one.name)
        group.insert(0, full)


def _add_key(figure: ET.Element, parts: dict[str, list[ET.Element]], prefix: str) -> None:
    """What colours and dashes mean."""
    key = _group(figure, f"{prefix}key", "key")
    for kind in ("family", "mode", "event"):
        numbers = dict.fromkeys(gid.split("|")[1] for gid in parts if gid.startswith(f"key-{kind}|"))
        for number in numbers:
            group = _group(key, "", f"key-{kind}")
            for name in ("mark", "text"):
                group.extend(parts.get(f"key-{kind}|{number}|{name}", ()))


def chart_points(chart: Chart, one: Series) -> tuple[Point, ...]:
    """The points of a series that a chart shows: a chart of rows has its last one only."""
    return one.points[-1:] if chart.kind in (DOTS, PAIRS) else one.points


def _point_data(point: Point) -> dict[str, str]:
    figures = {"value": point.value, "low": point.low, "high": point.high, "x": point.x, "inner": point.inner}
    known = {name: f"{value:.6g}" for name, value in figures.items() if value is not None}
    told = {"told": " · ".join(point.told)} if point.told else {}
    return _data(seq=str(point.seq), workload=point.workload, **known, **told)


def _data(**values: str) -> dict[str, str]:
    return {f"data-{name}": printable.message(value) for name, value in values.items()}


def _in_words(chart: Chart) -> str:
    """For who does not see the plot: what is in it, and which is best where."""
    best = chart.series[0]
    last = best.points[-1]
    unit = f" {chart.unit}" if chart.unit else ""
    if chart.kind == HISTORY:
        return (
            f"{len(chart.series)} variants over {len(chart.sessions)} sessions. Slower than its first session by most: "
            f"{printable.message(best.name)}, {last.value:+.2f} %."
        )
    return (
        f"{len(chart.series)} variants. Best at sequence length {last.seq}: {printable.message(best.name)}, "
        f"{last.value:.4g}{unit}."
    )


def _group(parent: ET.Element, gid: str, classes: str) -> ET.Element:
    group = ET.SubElement(parent, "g", {"id": gid} if gid else {})
    group.set("class", classes)
    return group


def _text(parent: ET.Element, tag: str, text: str) -> ET.Element:
    element = ET.SubElement(parent, tag)
    element.text = text if tag == "style" else printable.message(text)
    return element


def _copy(parent: ET.Element, parts: dict[str, list[ET.Element]], source: str, gid: str, classes: str) -> None:
    if source in parts:
        _group(parent, gid, classes).extend(parts[source])


def _path(path: str) -> str:
    return _COMMAND.sub(r"\1", _flat(path))


def _flat(path: str) -> str:
    """A path, or a place, in hundredths of a pixel on one line."""
    return " ".join(_NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), path).split())
