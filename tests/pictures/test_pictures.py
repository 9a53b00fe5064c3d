"""The pictures of the documents: small, described, and without a word about the machine that made them."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

import pytest

from tests.pictures.console import SHOTS, Shot
from tests.pictures.run import DEMO, PICTURES
from tests.running import ROOT

README, GUIDE = ROOT / "README.md", ROOT / "deploy" / "README.md"
SHOWN: Final = {
    README: {"demo.svg", "console.png"},
    GUIDE: {"console.png", "console-dark.png", "console-phone.png"},
}
_IMAGE: Final = re.compile(r"!\[([^\]]*)\]\(([^)\s]*pictures/[^)\s]+)\)")
_KIND: Final = b"\x89PNG\r\n\x1a\n"


def chunks(png: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG file by type."""
    found, at = {}, len(_KIND)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        found[png[at + 4 : at + 8]] = png[at + 8 : at + 8 + length]
        at += 12 + length
    return found


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_picture_of_a_page_exists_and_is_described(page: Path) -> None:
    """The alternative text is a description, not a file name."""
    found = _IMAGE.findall(page.read_text(encoding="utf-8"))
    assert {Path(target).name for _, target in found} == SHOWN[page]
    assert [target for _, target in found if not (page.parent / target).is_file()] == []
    assert [text for text, _ in found if len(text.split()) < 8] == []


def test_no_picture_is_left_over() -> None:
    shown = set().union(*SHOWN.values())
    assert {file.name for file in PICTURES.iterdir()} == shown == {"demo.svg", *(shot.name for shot in SHOTS)}


def test_the_picture_of_the_demo_is_small_and_refers_to_nothing() -> None:
    """A page that shows it loads nothing else and runs nothing."""
    text = DEMO.read_text(encoding="utf-8")
    assert len(text.encode()) < 60_000
    assert re.findall(r"<script|<foreignObject|href|url\(|@import|\son\w+=", text) == []


def test_the_picture_of_the_demo_has_no_path_of_a_machine() -> None:
    paths = re.findall(
        r"(?<![\w.:/$}])/(?:tmp|home|root|Users|usr|var|work|opt)\b\S*", DEMO.read_text("utf-8")
    )
    assert paths == []


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_a_screenshot_is_small_and_has_only_pixels(shot: Shot) -> None:
    """It has the size of its window, and no text that a program has put into the file."""
    png = (PICTURES / shot.name).read_bytes()
    found = chunks(png)
    assert (png[:8], len(png) < 150_000, set(found)) == (_KIND, True, {b"IHDR", b"IDAT", b"IEND"})
    assert struct.unpack_from(">II", found[b"IHDR"]) == (shot.width, shot.height)
