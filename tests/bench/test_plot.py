"""The picture of the README: well-formed, with a pair of bars for each server."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.bench.plot import Bars, bars, drawn
from tests.bench.report import About
from tests.bench.samples import Sample, Samples

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [
    Bars("nginx <1>", "forwards & logs", 10.0, 20.0, ours=False),
    Bars("ours", "all", 30.0, 40.0, ours=True),
]


def picture() -> ET.Element:
    return ET.fromstring(drawn(GROUPS))  # noqa: S314 - it is ours


def test_the_bars_are_medians_with_the_fastest_first() -> None:
    """The upstream itself is no server to compare with."""
    samples: Samples = {
        (server, call): [Sample(value, 1.0, 1.0, 1.0) for value in values]
        for server, call, values in (
            ("direct", "GET", (1.0,)),
            ("gateway", "GET", (30.0, 31.0, 90.0)),
            ("gateway", "POST", (40.0, 41.0, 42.0)),
            ("nginx", "GET", (10.0,)),
            ("nginx", "POST", (20.0,)),
        )
    }
    about = {"gateway": About("all", keeps_numbers=True), "nginx": About("forwards", keeps_numbers=False)}
    assert bars(samples, about, ["gateway"]) == [
        Bars("nginx", "forwards; changes large numbers", 10.0, 20.0, ours=False),
        Bars("gateway", "all", 31.0, 41.0, ours=True),
    ]


def test_the_picture_is_xml_with_every_name_and_figure() -> None:
    """Names are text, whatever characters they have."""
    texts = [found.text for found in picture().iter(f"{SVG}text")]
    assert texts[3:] == ["nginx <1>", "forwards & logs", "10.0", "20.0", "ours", "all", "30.0", "40.0"]


def test_the_bars_are_in_proportion_and_ours_are_marked() -> None:
    """The longest bar has the place that there is; marked are the two bars of the gateway."""
    rows = list(picture().iter(f"{SVG}rect"))[2:]
    found = [(row.attrib["class"], float(row.attrib["width"])) for row in rows]
    assert found == [("get", 130.0), ("post", 260.0), ("get mark", 390.0), ("post mark", 520.0)]


def test_every_class_has_a_colour_on_light_and_on_dark_pages() -> None:
    """GitHub shows the picture on both."""
    light, found, dark = drawn(GROUPS).partition("@media (prefers-color-scheme: dark)")
    assert found
    for rule in ("text {", ".get {", ".post {", ".get.mark {", ".post.mark {"):
        assert rule in light
        assert rule in dark
