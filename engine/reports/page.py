"""The frame of a report page: one HTML file that holds its styles, its scripts and its numbers, and opens
offline.

Charts are plain dicts (see ``charts.py``), drawn by the page's scripts with uPlot, which is in ``vendor/``.
Their numbers, and the rows of long lists, go into the file compressed.
"""

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.messages import REGIMES
from engine.reports.columns import Columns

REGIME_COLOURS = dict(zip((*REGIMES, "none"), ("#2f7fd1", "#e0a526", "#c2397f", "#8d98a6"), strict=True))
"""Blue, amber, magenta: told apart with every common colour blindness, and the same on every page."""

SERIES_COLOURS = ("#0f9d8a", "#7c5fd3", "#d9622b", "#4f8f2f", "#b0518f", "#5a7184")
"""For strategies and models, in their order; none of them is a regime's."""

GAIN, LOSS = "#1f8fa8", "#cf5a2a"
"""Teal and rust, in place of green and red."""

GATE_COLOURS = (GAIN, "#a7b0bb", "")
"""Of ``GATE``; where no model speaks nothing is drawn."""

Figure = dict[str, Any]

# The page may not reach out, whatever stands in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
_SCRIPTS = ("vendor/uplot.min.js", "unpack.js", "labels.js", "charts.js", "page.js")


class Page:
    """What a page holds beside its HTML: columns of numbers, charts of them, and long lists.

    Attributes
    ----------
    columns : Columns
    derived : dict
        Columns that the page's script reckons from others: name to kind and arguments, see ``unpack.js``.
    """

    def __init__(self) -> None:
        self.columns = Columns()
        self.derived: dict[str, list[Any]] = {}
        self._figures: dict[str, Figure] = {}
        self._lists: dict[str, Any] = {}

    def chart(self, name: str, figure: Figure) -> str:
        """Take a chart and return its place in the HTML."""
        self._figures[name] = figure
        return f"<div class='chart' id='{name}'></div>"

    def rows(
        self,
        name: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        spans: Sequence[tuple[int, int, str]],
        pad: int,
    ) -> str:
        """Take a list that is searched, sorted and scrolled, and return its place in the HTML.

        Parameters
        ----------
        spans : sequence of (int, int, str)
            For each row the stretch (ms) that a click on it shows in the chart, and what is written there.
        pad : int
            How much (ms) is shown before and after it.
        """
        start, end, labels = zip(*spans, strict=True) if spans else ((), (), ())
        self._lists[name] = {"rows": rows, "from": start, "to": end, "labels": labels, "pad": pad}
        heads = "".join(f"<th scope='col'><button>{escape(text)}</button></th>" for text in header)
        return (
            f"<div class='list' id='{name}'><div class='tools'><input type='search' aria-label='search' "
            "placeholder='search: grid stress exit …'><span class='count'></span></div>"
            f"<div class='scroll' tabindex='0'><table class='left'><thead><tr>{heads}</tr></thead>"
            "<tbody></tbody></table></div></div>"
        )

    def write(self, path: Path, title: str, body: str) -> Path:
        """Write the page under a temporary name, then put it in its place, which is returned.

        Every text in ``body`` that is not the page's own must have gone through ``escape``.
        """
        about = {"figures": self._figures, "tables": self._lists, "derived": self.derived}
        scripts = f"<script>/* uPlot: {_asset('vendor/uplot-LICENSE')} */</script>\n"
        scripts += "".join(f"<script>{_asset(name)}</script>\n" for name in _SCRIPTS)
        text = (
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            "<meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>{escape(title)}</title>"
            f"<style>{_asset('vendor/uplot.min.css')}{_asset('page.css')}</style></head>\n"
            f"<body><main>{body}</main>\n"
            "<noscript>The charts and lists of this page need JavaScript.</noscript>\n"
            f"<script type='text/plain' id='packed'>{self.columns.pack(about)}</script>\n"
            f"{scripts}</body></html>\n"
        )
        partial = path.with_name(path.name + ".partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
        return path


def escape(text: object) -> str:
    """``text`` as HTML, quotes included."""
    return html.escape(str(text), quote=True)


def card(title: str, content: str, note: str = "", wide: bool = True) -> str:
    """A titled box; ``note`` is HTML in small print under the title."""
    small = f"<p class='note'>{note}</p>" if note else ""
    return (
        f"<section class='card{' wide' if wide else ''}'><h2>{escape(title)}</h2>{small}{content}</section>"
    )


def tile(label: str, value: str, healthy: str, standing: str = "", detail: str = "") -> str:
    """One figure with what a healthy range is; ``standing`` is ``ok``, ``watch`` or ``""`` (not judged).

    Empty where the figure is not available.
    """
    if value == "n/a":
        return ""
    mark = {"ok": "within the healthy range", "watch": "outside the healthy range", "": "not judged"}[
        standing
    ]
    small = f"<span class='detail'>{escape(detail)}</span>" if detail else ""
    return (
        f"<div class='tile {standing}' title='{mark}'><div class='label'><i></i>{escape(label)}</div>"
        f"<div class='value'>{escape(value)}{small}</div><div class='healthy'>{escape(healthy)}</div></div>"
    )


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    kind: str = "",
    spans: Sequence[tuple[int, int, str]] = (),
) -> str:
    """An HTML table; a cell may be text (escaped) or ``Cell``; columns after the first are aligned right.

    With ``spans``, as those of ``Page.rows``, a click on a row shows its stretch in the chart.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for i, row in enumerate(rows):
        cells = [c if isinstance(c, Cell) else Cell(escape(c)) for c in row]
        begin = "<tr>"
        if spans:
            start, end, label = spans[i]
            begin = f"<tr tabindex='0' data-from='{start}' data-to='{end}' data-label='{escape(label)}'>"
        lines.append(begin + "".join(c.render() for c in cells) + "</tr>")
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


def _asset(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
