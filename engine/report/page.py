"""The frame of a report page: one HTML file that holds its styles, its scripts and plotly.js, and opens
offline.

Figures are plain plotly dicts, embedded as JSON. Strings such as ``$ink`` in them are colours of the theme,
filled in by the page's script, so that a figure follows when the reader turns from light to dark.
"""

import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from features.messages import REGIMES

REGIME_COLOURS = dict(zip((*REGIMES, "none"), ("#2f7fd1", "#e0a526", "#c2397f", "#8d98a6"), strict=True))
"""Blue, amber, magenta: told apart with every common colour blindness, and the same on every page."""

SERIES_COLOURS = ("#0f9d8a", "#7c5fd3", "#d9622b", "#4f8f2f", "#b0518f", "#5a7184")
"""For strategies and models, in their order; none of them is a regime's."""

GAIN, LOSS = "#1f8fa8", "#cf5a2a"
"""Teal and rust, in place of green and red."""

Figure = dict[str, Any]


def write_page(path: Path, title: str, body: str, figures: Mapping[str, Figure], data: Any = None) -> Path:
    """Write a page under a temporary name, then put it in its place.

    Parameters
    ----------
    body : str
        HTML; every text in it that is not the page's own must have gone through ``escape``.
    figures : mapping
        Figures by the id of the ``div`` in ``body`` they are drawn in.
    data : object
        JSON for the page's table of decisions, if it has one.
    """
    parts = {"figures": embed_json(figures), "data": embed_json(data)}
    text = (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_asset('page.css')}</style></head>\n<body><main>{body}</main>\n"
        f"<script type='application/json' id='figures-json'>{parts['figures']}</script>\n"
        f"<script type='application/json' id='data-json'>{parts['data']}</script>\n"
        f"<script>{get_plotlyjs()}</script>\n<script>{_asset('page.js')}</script></body></html>\n"
    )
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def escape(text: object) -> str:
    """``text`` as HTML, quotes included. Plotly's labels, which know a few tags, need it too."""
    return html.escape(str(text), quote=True)


def embed_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def card(title: str, content: str, note: str = "", wide: bool = True) -> str:
    """A titled box; ``note`` is HTML in small print under the title."""
    small = f"<p class='note'>{note}</p>" if note else ""
    return (
        f"<section class='card{' wide' if wide else ''}'><h2>{escape(title)}</h2>{small}{content}</section>"
    )


def tile(label: str, value: str, healthy: str, standing: str = "", detail: str = "") -> str:
    """One figure with what a healthy range is; ``standing`` is ``ok``, ``watch`` or ``""`` (not judged)."""
    mark = {"ok": "within the healthy range", "watch": "outside the healthy range", "": "not judged"}[
        standing
    ]
    small = f"<span class='detail'>{escape(detail)}</span>" if detail else ""
    return (
        f"<div class='tile {standing}' title='{mark}'><div class='label'><i></i>{escape(label)}</div>"
        f"<div class='value'>{escape(value)}{small}</div><div class='healthy'>{escape(healthy)}</div></div>"
    )


def chart(name: str, height: int) -> str:
    """The place of the figure ``name``."""
    return f"<div class='chart' id='{name}' style='height:{height}px'></div>"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], kind: str = "") -> str:
    """An HTML table; a cell may be text (escaped) or ``Cell``; columns after the first are aligned right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for row in rows:
        cells = [c if isinstance(c, Cell) else Cell(escape(c)) for c in row]
        lines.append("<tr>" + "".join(c.render() for c in cells) + "</tr>")
    inner = f"<table class='{kind}'><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f"<div class='scroll'>{inner}</div>"


class Cell:
    """A cell of ``table`` that is HTML already, with a class or a colour behind it."""

    def __init__(self, content: str, kind: str = "", background: str = "") -> None:
        self.content, self.kind, self.background = content, kind, background

    def render(self) -> str:
        style = f" style='background:{self.background}'" if self.background else ""
        return f"<td class='{self.kind}'{style}>{self.content}</td>"


def tinted(content: str, value: float, largest: float, kind: str = "") -> Cell:
    """A cell coloured by its sign and by its size against ``largest``."""
    strength = 0 if not largest else round(55 * min(abs(value) / largest, 1.0))
    colour = GAIN if value > 0 else LOSS
    background = f"color-mix(in srgb, {colour} {strength}%, transparent)" if strength else ""
    return Cell(escape(content), kind, background)


def swatch(name: str, colour: str) -> str:
    """A name with its colour before it."""
    return f"<span class='swatch' style='background:{colour}'></span>{escape(name)}"


def layout(**settings: Any) -> Figure:
    """A plotly layout in the page's manner; axes given as ``xaxis=…`` get its grid."""
    base: Figure = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "family": "Inter, 'Segoe UI', system-ui, 'DejaVu Sans', sans-serif",
            "size": 12,
            "color": "$muted",
        },
        "margin": {"l": 64, "r": 16, "t": 12, "b": 36},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "$axis", "activecolor": "$ink"},
        "hoverlabel": {"bgcolor": "$card", "bordercolor": "$line", "font": {"color": "$ink", "size": 12}},
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11.5}},
        "uirevision": "keep",
    }
    axis = {"gridcolor": "$line", "zerolinecolor": "$axis", "linecolor": "$line", "automargin": False}
    for name, value in settings.items():
        base[name] = {**axis, **value} if name.startswith(("xaxis", "yaxis")) else value
    return base


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
