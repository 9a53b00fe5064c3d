"""A random mutation of the file that ships gives no traceback, and `diff` reports whatever it widens."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Config, ConfigError, parse_config
from gateway.config.differences import differences
from gateway.config.presets import CORE, PRESETS, core_table, preset
from gateway.policy.overlaps import example
from gateway.policy.table_diff import ANYONE, MASTER, changes
from tests.conftest import examples
from tests.policy.comparing import unreported

LINES = preset(CORE).splitlines()
ROUTES = range(LINES.index("routes:") + 1, len(LINES))
CORE_TABLE = core_table()
METHODS = sorted({route.method for route in CORE_TABLE.routes})
# Requests for every route of Core with a new word for each placeholder, and with those words elsewhere.
PATHS = {
    tuple(name if segment == "{}" else segment for segment in example(route.shape))
    for route in CORE_TABLE.routes
    for name in ("x", "filter", "metadata")
}
PATHS |= set(product(("x", "ledgers", "hooks"), repeat=2)) | {("x",), ("x", "y", "z", "z", "z", "z", "z")}
REQUESTS = [(method, path) for method in METHODS for path in sorted(PATHS)]
CALLERS: list[str | tuple[str, ...]] = [
    ANYONE,
    MASTER,
    (),
    ("ledgers:read",),
    ("*:read",),
    ("*:write",),
    ("*:*",),
]
MOMENTS = (0.0, 1e12)  # before and after any date of report-only

WORDS = (
    "ledgers:read", "transactions:write", "[ledgers:read, hooks:write]", "master", "deny", "public",
    "{scope: ledgers:write, stamp: none}", "{scope: transactions:write, stamp: bulk}", "*:read", '"*:*"',
    '{scope: ledgers:read, mode: report-only, until: "2001-01-02"}', "{scope: identities:write}",
)  # fmt: skip
NEW = (
    "GET /{all...}", "POST /{a}/{b}", "POST /ledgers/{x...}", "DELETE /{x}/{id}", "GET /ledgers/x",
    "PUT /{a}/x", "POST /transactions/filter/x", "POST /{a}/filter", "GET /api-keys/{id}", "GET /metrics",
    "HEAD /ledgers",
)  # fmt: skip
Edit = Callable[[list[str]], list[str]]


def _at(change: Callable[[str], list[str]], index: int) -> Edit:
    return lambda lines: [
        *lines[:index],
        *(change(lines[index]) if index < len(lines) else []),
        *lines[index + 1 :],
    ]


anywhere, in_routes = st.integers(0, len(LINES) - 1), st.sampled_from(ROUTES)
words, names, text = st.sampled_from(WORDS), st.sampled_from(NEW), st.text(max_size=4)
edits = st.one_of(
    st.builds(lambda at: _at(lambda _: [], at), anywhere),
    st.builds(lambda at: _at(lambda line: [line, line], at), anywhere),
    st.builds(
        lambda at, word: _at(lambda line: [line.partition(": ")[0] + ": " + word], at), in_routes, words
    ),
    st.builds(
        lambda at, name, word: _at(lambda line: [line, f"  {name}: {word}"], at), in_routes, names, words
    ),
    st.builds(
        lambda at, name: _at(lambda line: [f"  {name}: " + line.partition(": ")[2]], at), in_routes, names
    ),
    st.builds(
        lambda at, cut, put: _at(lambda line: [line[:cut] + put + line[cut + 1 :]], at),
        anywhere,
        anywhere,
        text,
    ),
    st.builds(lambda at: _at(lambda line: [line.replace("accept", "deny")], at), anywhere),
)


PRESET = {
    name: parse_config(preset(name).encode(), Path("gateway.yaml"), {}, secrets=False) for name in PRESETS
}


def read(text: str) -> Config | ConfigError:
    """Return the configuration, or the error with its problems; any other exception fails the test."""
    try:
        return parse_config(text.encode("utf-8", "surrogatepass"), Path("gateway.yaml"), {}, secrets=False)
    except ConfigError as error:
        return error


@examples(50)
@given(name=st.sampled_from(PRESETS), mutations=st.lists(edits, min_size=1, max_size=3))
def test_a_mutation_is_refused_by_line_or_reported(name: str, mutations: list[Edit]) -> None:
    """Each request that one file allows and the other denies is covered by a reported change."""
    old, lines = PRESET[name], preset(name).splitlines()
    for mutate in mutations:
        lines = mutate(lines)
    new = read("\n".join(lines))
    if isinstance(new, ConfigError):
        assert all(problem.text.isprintable() for problem in new.problems)
        return
    for before, after in ((old, new), (new, old)):
        reported = changes(before.routes, after.routes, CORE_TABLE)
        assert list(unreported(before.routes, after.routes, reported, REQUESTS, CALLERS, MOMENTS)) == []
        accepts = before.keys.master == "deny" and after.keys.master == "accept"
        assert accepts == any(one.path == "keys.master" and one.widens for one in differences(before, after))
