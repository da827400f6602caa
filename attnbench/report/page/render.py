"""Gathered records, and plots where there are any, as one self-contained HTML file.

Pure: the same input gives the same bytes, and nothing is read but the template, style and script beside this module. A
content security policy forbids every request; the one style and the one script are allowed by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from attnbench import printable
from attnbench.report.charts.chart import HISTORY
from attnbench.report.gather import Gathered
from attnbench.report.page.content import Content
from attnbench.report.page.packing import deflated, shared

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

#: Names that are longer lose their middle on the page; the whole one is in the tooltip and in the downloads.
LONGEST_NAME = 90
#: What an inlined plot may consist of: shapes and text, nothing that loads, links or runs.
_SHAPES = frozenset(
    ("svg", "g", "path", "circle", "rect", "line", "polyline", "polygon", "text", "tspan", "title", "desc")
)
_SVG = "{http://www.w3.org/2000/svg}"
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>\s*")


@dataclass(frozen=True)
class Figure:
    """A plot to inline: SVG text with the ids and classes of attnbench/report/plots/svg.py, each id with its own prefix.

    stem: unique, the name of its file. name: what it plots (`latency`), by which tabs group figures. device: as
    `series.Chart` names it.
    """

    stem: str
    name: str
    title: str
    subtitle: str
    device: str
    kind: str
    unit: str
    svg: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Downloads:
    """What the page holds to be saved: every record as JSON lines and as a table."""

    records_jsonl: str
    table_csv: str


def render(
    gathered: Gathered,
    figures: Sequence[Figure] = (),
    *,
    downloads: Downloads,
    descriptions: Mapping[str, str] | None = None,
    said: Sequence[str] = (),
    history: bool = False,
) -> bytes:
    """The page, UTF-8.

    descriptions: by backend what it is, for hovers. said: sentences on plots that are missing, each shown once.
    history: with the table of each case's latency over time, for files of several days.
    Raises ImportError without Jinja2 (the extra `report`).
    """
    content = Content(gathered, descriptions, with_history=history)
    shown, refused = [], []
    for figure in figures:
        if why := refusal(figure.svg):
            refused.append(f"The plot {figure.stem} is left out: {why}.")
        else:
            shown.append(figure)
    style, script = _part("page.css"), _part("page.js")
    policy = (
        "default-src 'none'; "
        f"script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    environment = _environment()
    text = environment.get_template("page.html").render(
        content=content,
        tabs=_tabs([one for one in shown if one.kind != HISTORY]),
        over_time=[one for one in shown if one.kind == HISTORY],
        said=tuple(dict.fromkeys((*said, *refused))),
        policy=policy,
        style=environment.filters["trusted"](style),
        script=environment.filters["trusted"](script),
        data=script_json(content.data),
        records_jsonl=deflated(shared(downloads.records_jsonl.splitlines())),
        table_csv=deflated(downloads.table_csv),
    )
    return text.lstrip().encode()


@cache
def _environment() -> Environment:
    """Jinja's, with this package's template compiled once."""
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=DictLoader({"page.html": _part("page.html.j2")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Only this package's own files, plots that `refusal` has looked through, and JSON without `<` are taken as they are.
    environment.filters["trusted"] = Markup
    environment.filters["plot"] = lambda svg: Markup(_DECLARATION.sub("", svg).strip())
    environment.filters["shortened"] = shortened
    environment.filters["name"] = _name
    return environment


@lru_cache(8192)
def _name(text: Any) -> Markup:
    """A name that may break after an `@`; a long one loses its middle, and has the whole in its tooltip."""
    from markupsafe import Markup

    whole = str(text)
    short = shortened(whole)
    breakable = Markup("@<wbr>").join(short.split("@"))
    return breakable if short == whole else Markup('<span title="{}">{}</span>').format(whole, breakable)


def script_json(data: Any) -> str:
    """JSON for a script element: neither a tag, a comment nor a line separator can begin in it."""
    text = json.dumps(_finite(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def refusal(svg: str) -> str:
    """Why an SVG text is not inlined: anything but shapes and text in it could load or run something. Empty if it may."""
    try:
        root = ET.fromstring(_DECLARATION.sub("", svg))
    except ET.ParseError as exc:
        return f"it is no well-formed XML ({exc})"
    if root.tag != f"{_SVG}svg":
        return "it is no SVG"
    for element in root.iter():
        tag = element.tag.removeprefix(_SVG)
        if tag not in _SHAPES:
            return f"it holds {printable.message(tag, 40)}, and only shapes and text are inlined"
        for name, value in element.attrib.items():
            plain = name.rpartition("}")[2].lower()
            if plain.startswith("on") or plain in ("href", "style", "src") or "url(" in value.lower():
                return f"it holds the attribute {printable.message(plain, 40)}"
    return ""


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A long name without its middle, as its end tells variants apart."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[1 - half :]}"


def _tabs(figures: Sequence[Figure]) -> list[tuple[str, str, list[Figure]]]:
    """Figures by what they plot: its name, its label, and one figure per device and problem."""
    tabs: dict[str, list[Figure]] = {}
    for figure in figures:
        tabs.setdefault(figure.name, []).append(figure)
    return [(name, mine[0].title.removesuffix(" over sequence length"), mine) for name, mine in tabs.items()]


def _part(name: str) -> str:
    return resources.files("attnbench.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A source expression of the content security policy, level 3: browsers hash the element's text as it stands."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {name: _finite(value) for name, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, (list, tuple)) else data
