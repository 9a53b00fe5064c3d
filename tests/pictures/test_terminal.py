"""Lines of a terminal, drawn as SVG."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.pictures.terminal import drawn, lines_of, text_of

PRINTED = '\x1b[1mTitle\x1b[0m\n\n  \x1b[1;32m201\x1b[0m {"a":"<&>"}\n\x1b[2m$ two  blanks\x1b[0m\n'


def test_it_has_the_text_of_each_line_that_is_not_blank() -> None:
    assert text_of(drawn(lines_of(PRINTED), "t")) == ["Title", '  201 {"a":"<&>"}', "$ two  blanks"]


def test_the_styles_of_the_terminal_are_classes() -> None:
    picture = ET.fromstring(drawn(lines_of(PRINTED), "t"))  # noqa: S314 - ours
    spans = picture.iter("{http://www.w3.org/2000/svg}tspan")
    assert [(span.get("class"), span.text) for span in spans] == [
        ("bold", "Title"),
        ("bold green", "201"),
        ("dim", "$ two  blanks"),
    ]


def test_it_names_itself_and_follows_the_dark_mode() -> None:
    """A screen reader reads the title."""
    picture = drawn(lines_of(PRINTED), "A & B")
    assert '<title id="title">A &amp; B</title>' in picture
    assert 'role="img" aria-labelledby="title"' in picture
    assert "@media (prefers-color-scheme: dark)" in picture


def test_the_lines_fit_into_the_picture() -> None:
    """The view is wide enough for the longest line in a usual font, and high enough for the last one."""
    picture = drawn(lines_of("x" * 100 + "\n" * 9 + "end"), "t")
    root = ET.fromstring(picture)  # noqa: S314 - ours
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    last = max(float(text.attrib["y"]) for text in root.iter("{http://www.w3.org/2000/svg}text"))
    assert (width > 100 * 13 * 0.6, last < height) == (True, True)
