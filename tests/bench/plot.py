"""Draw the CPU time of a GET and a POST for each server as bars, in SVG for the README.

Rules kept here:
- The picture has no background and two sets of colours, so that it can be read on light and on dark pages.
- Each bar has its figure as text, so no axis is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median

from tests.bench.messages import GET, POST
from tests.bench.report import WITHOUT_CPU, About
from tests.bench.samples import Samples, cpu_of

_WIDTH, _NAMES, _FIGURES = 910, 330, 60
_TOP, _ROW, _BAR, _GAP = 66, 46, 15, 2
_TITLE = "CPU time of one request, in microseconds: less is better"
_STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2328 }
    .title { font-weight: 600; font-size: 15px }
    .does, .figure, .legend { font-size: 12px; fill: #59636e }
    .ours { font-weight: 600 }
    .get { fill: #afb8c1 } .post { fill: #818b98 }
    .get.mark { fill: #80ccff } .post.mark { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .does, .figure, .legend { fill: #9198a1 }
      .get { fill: #3d444d } .post { fill: #656c76 }
      .get.mark { fill: #1158a5 } .post.mark { fill: #4493f8 }
    }
"""


@dataclass(frozen=True, slots=True)
class Bars:
    """The two bars of a server, in microseconds; `ours` are highlighted."""

    name: str
    does: str
    get_us: float
    post_us: float
    ours: bool


def bars(samples: Samples, about: dict[str, About], ours: Sequence[str]) -> list[Bars]:
    """Return the bars of the servers, the least POST first."""
    names = {server for server, _ in samples} - {WITHOUT_CPU}
    found = [
        Bars(
            name,
            about[name].shown,
            median(cpu_of(samples, name, GET.name)),
            median(cpu_of(samples, name, POST.name)),
            name in ours,
        )
        for name in names
    ]
    return sorted(found, key=lambda each: (each.post_us, each.name))


def drawn(groups: Sequence[Bars]) -> str:
    """Return the picture."""
    height = _TOP + _ROW * len(groups)
    most = max(max(each.get_us, each.post_us) for each in groups)
    scale = (_WIDTH - _NAMES - _FIGURES) / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"  <title>{_TITLE}</title>",
        f"  <style>{_STYLE}  </style>",
        f'  <text class="title" x="0" y="18">{_TITLE}</text>',
        *_legend(),
    ]
    for place, each in enumerate(groups):
        parts += _row(each, _TOP + place * _ROW, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> Iterator[str]:
    for x, kind, text in ((0, "get", "GET"), (60, "post", "POST of a transaction")):
        yield f'  <rect class="{kind}" x="{x}" y="33" width="12" height="12" rx="2"/>'
        yield f'  <text class="legend" x="{x + 18}" y="43">{text}</text>'


def _row(each: Bars, top: int, scale: float) -> Iterator[str]:
    name = 'class="ours" ' if each.ours else ""
    yield f'  <text {name}x="0" y="{top + 13}">{escape(each.name)}</text>'
    yield f'  <text class="does" x="0" y="{top + 29}">{escape(each.does)}</text>'
    for kind, value, y in (("get", each.get_us, top), ("post", each.post_us, top + _BAR + _GAP)):
        width = value * scale
        mark = " mark" if each.ours else ""
        yield (
            f'  <rect class="{kind}{mark}" x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
        )
        yield f'  <text class="figure" x="{_NAMES + width + 6:.1f}" y="{y + 12}">{value:.1f}</text>'
