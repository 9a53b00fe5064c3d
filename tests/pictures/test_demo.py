"""The picture of the demo: what the demo prints today."""

from __future__ import annotations

from gateway.demo.walkthrough import AMOUNT
from tests.pictures.demo import picture, recorded, repeatable, shown
from tests.pictures.run import DEMO
from tests.pictures.terminal import lines_of, text_of

IDS = [f"{digit * 8}-1111-4111-8111-{digit * 12}" for digit in "abc"]
FIRST = "00000000-0000-4000-8000-000000000001"
SECOND = "00000000-0000-4000-8000-000000000002"


async def test_the_picture_has_what_the_demo_prints_today() -> None:
    """Each step that it shows is whole, and so is its style."""
    today = picture(await recorded())
    assert text_of(today) == text_of(DEMO.read_text(encoding="utf-8")), "run python3 -m tests.pictures demo"
    assert today == DEMO.read_text(encoding="utf-8"), "run python3 -m tests.pictures demo"
    assert str(AMOUNT) in today


def test_ids_and_ports_are_the_same_in_each_run() -> None:
    """The first address is that for clients; the same id stays the same."""
    printed = f"127.0.0.1:41000 127.0.0.1:42000 {IDS[0]} {IDS[1]} {IDS[0]} 127.0.0.1:41000"
    assert repeatable(printed) == f"127.0.0.1:5001 127.0.0.1:40001 {FIRST} {SECOND} {FIRST} 127.0.0.1:5001"


def test_steps_that_are_left_out_have_a_mark() -> None:
    """What comes after the result is left out without one."""
    printed = "Hello\n\nrest\n 1  a\n\n 2  b\n\n 3  c\n  d\n\n 4  e\n\n 5  f\n\nAll 5 steps\n\nNext\n"
    assert [line.plain for line in shown(lines_of(printed))] == [
        "$ .venv/bin/blnk-gateway demo",
        "Hello",
        "⋮",
        " 3  c",
        "  d",
        "⋮",
        " 5  f",
        "",
        "All 5 steps",
    ]
