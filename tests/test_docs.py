"""Compare the documents with the code: settings, codes, commands, exit codes, metrics, names and YAML.

Rules kept here:
- A fact that is in the code is compared with the code, also defaults and statuses.
- Cells of table rows are compared; the same word elsewhere in the text does not count.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from gateway.audit import Kind, Way
from gateway.audit.entry import MEMBERS
from gateway.cli import cli
from gateway.config import Setting, parse_config, settings
from gateway.config.model import sections
from gateway.errors import Code
from gateway.server.exit_codes import Exit
from gateway.telemetry import AccessEntry
from tests.running import ROOT

README = ROOT / "README.md"
DEPLOY = ROOT / "deploy" / "README.md"
REFERENCE = ROOT / "deploy" / "reference.md"
POLICY = ROOT / "deploy" / "policy.md"
KEYS = ROOT / "deploy" / "keys.md"
CHART = ROOT / "deploy" / "helm" / "blnk-gateway" / "README.md"
ARCHITECTURE = ROOT / "gateway" / "README.md"
SUITE = ROOT / "tests" / "README.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
SECURITY = ROOT / ".github" / "SECURITY.md"
CHANGELOG = ROOT / "CHANGELOG.md"
GUIDES = (README, DEPLOY, REFERENCE, POLICY, KEYS, CHART)
DOCUMENTS = (*GUIDES, ARCHITECTURE, SUITE, CONTRIBUTING, SECURITY, CHANGELOG)

SETTINGS = settings()
SECTIONS = {path.partition(".")[0] for path in SETTINGS} | {"routes"}
# Sections that an example may leave out, and their replacements.
MISSING = {
    "upstream": "upstream: {url: 'http://127.0.0.1:5100', master_key: x}",
    "keys": "keys: {store: 'memory://'}",
    "routes": "routes: {GET /health: public}",
}

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^]\n]+\]\(([^)\s]+)\)")
_QUOTED = re.compile(r"`([^`\n]+)`")
_PLACE = re.compile(r"`([\w/]+\.py): ([\w.]+)`")
_FILE = re.compile(r"[\w.-]+(/[\w.-]+)*\.(py|md|ya?ml|toml|json|jsonl)|[\w.-]+(/[\w.-]+)*/")


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def blocks(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return [body for named, body in _FENCE.findall(text_of(document)) if named == language]


def prose(document: Path) -> str:
    return _FENCE.sub("", text_of(document))


def rows(*documents: Path) -> Iterator[list[str]]:
    """Yield the cells of every table row, without the blanks around them."""
    for document in documents:
        for line in prose(document).splitlines():
            if line.startswith("|"):
                yield [cell.strip() for cell in line.strip("|").split("|")]


def named_in_tables(*documents: Path) -> set[str]:
    """Return everything in backquotes in the first cell of a row."""
    return {name for row in rows(*documents) for name in _QUOTED.findall(row[0])}


def default_of(setting: Setting, cell: str) -> Any:
    """Return the value in the `default` cell, read as gateway.yaml would read it."""
    if cell == "none":
        return setting.default if setting.default in (None, "") else None
    written = cell.strip("`")
    if setting.mapped:
        return setting.parse(tuple(filter(None, written.strip("{}").split(", "))))
    if written.startswith("["):
        return setting.parse(tuple(filter(None, written.strip("[]").split(", "))))
    return setting.parse(written)


def section(document: Path, heading: str) -> str:
    """Return the text below a heading of the second level, up to the next heading of that level or above."""
    return re.split(r"^##? ", text_of(document).partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]


def names_of(statement: ast.stmt) -> set[str]:
    """Return the names that a statement of a module or class defines."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, ast.AnnAssign):
        return {ast.unparse(statement.target)}
    return (
        {ast.unparse(target) for target in statement.targets} if isinstance(statement, ast.Assign) else set()
    )


def defines(module: Path, name: str) -> bool:
    """Return whether the module defines this function, class, constant or member (`Class.member`)."""
    statements = ast.parse(module.read_bytes()).body if module.exists() else []
    for part in name.split("."):
        found = [statement for statement in statements if part in names_of(statement)]
        statements = found[0].body if found and isinstance(found[0], ast.ClassDef) else []
        if not found:
            return False
    return True


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def examples() -> list[Any]:
    """Yield every YAML block that has only sections of gateway.yaml."""
    found = []
    for document in DOCUMENTS:
        for number, block in enumerate(blocks(document, "yaml")):
            top = yaml.compose(block, yaml.SafeLoader)
            if isinstance(top, yaml.MappingNode) and {key.value for key, _ in top.value} <= SECTIONS:
                found.append(pytest.param(block, id=f"{name_of(document)}-{number}"))
    return found


def complete(block: str) -> str:
    """Return the example with all sections that a configuration must have."""
    missing = [line for name, line in MISSING.items() if not re.search(rf"(?m)^{name}:", block)]
    return "\n".join([block, *missing])


class TestFacts:
    @pytest.mark.parametrize("path", SETTINGS)
    def test_every_setting_is_documented_with_its_default(self, path: str) -> None:
        """A file without the setting gets the default in the table."""
        cells = [row[1] for row in rows(REFERENCE) if row[0] == f"`{path}`"]
        assert len(cells) == 1, f"one row for `{path}`"
        setting = SETTINGS[path]
        if setting.example or path == "upstream.master_key":
            assert cells == ["required"]
        else:
            assert default_of(setting, cells[0]) == setting.default

    def test_every_documented_setting_exists(self) -> None:
        """The documents do not name a setting that was removed."""
        names = {name.partition(":")[0] for name in named_in_tables(REFERENCE)}
        of_sections = {name for name in names if "." in name and name.partition(".")[0] in sections()}
        assert of_sections - SETTINGS.keys() == set()

    def test_every_documented_variable_exists(self) -> None:
        """Every `BLNK_GATEWAY_*` in a document is the variable of a setting, or that of the build."""
        known = {"BLNK_GATEWAY_" + path.replace(".", "__").upper() for path in SETTINGS}
        known.add("BLNK_GATEWAY_COMPILE")
        named = {
            name for document in DOCUMENTS for name in re.findall(r"BLNK_GATEWAY_[A-Z_]+", text_of(document))
        }
        assert named - known - {"BLNK_GATEWAY_"} == set()

    @pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
    def test_every_code_is_documented_with_its_status_and_message(self, code: Code) -> None:
        """Each response of the catalogue has one row."""
        expected = [f"`{code.code}`", str(code.status), f"`{code.message}`"]
        assert [row[:3] for row in rows(REFERENCE) if row[:3] == expected] == [expected]

    def test_every_command_is_documented(self) -> None:
        """The table names every command and nothing else."""
        named = set(re.findall(r"`blnk-gateway (\w+)", prose(REFERENCE)))
        assert named == set(cli.commands)

    def test_every_command_of_keys_is_documented(self) -> None:
        """The row of `keys` names these commands and nothing else."""
        (commands,) = (row[1] for row in rows(REFERENCE) if row[0] == "`blnk-gateway keys`")
        assert isinstance(keys := cli.commands["keys"], click.Group)
        assert set(_QUOTED.findall(commands)) == set(keys.commands)

    def test_the_difference_that_is_shown_is_real(self) -> None:
        """`diff` prints the lines of the example in this order, and more."""
        (shown,) = (block for block in blocks(POLICY, "") if block.startswith("core -> recommended"))
        printed = CliRunner().invoke(cli, ["diff", "--preset", "core", "--preset", "recommended"]).output
        lines = shown.splitlines()
        assert [line for line in printed.splitlines() if line in lines] == lines

    @pytest.mark.parametrize("code", Exit, ids=lambda code: code.name)
    def test_every_exit_code_is_documented(self, code: Exit) -> None:
        """Each exit code has one row."""
        assert [row[0] for row in rows(REFERENCE) if row[0] == str(int(code))] == [str(int(code))]

    @pytest.mark.parametrize("kind", Kind, ids=str)
    def test_every_kind_of_audit_entry_is_documented_with_its_members(self, kind: Kind) -> None:
        """The row of a kind names the members of its entries and nothing else, and each has a meaning."""
        (cell,) = (row[1] for row in rows(REFERENCE) if row[0] == f"`{kind}`")
        named = _QUOTED.findall(cell)
        assert sorted(named) == sorted(MEMBERS[kind])
        assert set(named) - named_in_tables(REFERENCE) == set()

    def test_every_way_of_a_change_is_documented(self) -> None:
        """The row of `way` names each of them and nothing else."""
        (cell,) = (row[1] for row in rows(REFERENCE) if row[0] == "`way`")
        assert set(_QUOTED.findall(cell)) == set(Way)

    def test_every_member_of_a_log_line_is_documented(self) -> None:
        """The section names every member of a log line; `time` is shown as `timestamp`."""
        written = set(AccessEntry.__struct_fields__) - {"time"} | {"timestamp", "level", "event"}
        assert written - set(_QUOTED.findall(section(REFERENCE, "Logs"))) == set()

    def test_every_marker_is_documented(self) -> None:
        """A reader who wants to run a part of the tests finds the marker in tests/README.md."""
        options = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]["pytest"]["ini_options"]
        markers = {marker.partition(":")[0] for marker in options["markers"]}
        assert markers - named_in_tables(SUITE) == set()

    def test_the_differences_from_core_are_a_table(self) -> None:
        """Each row has the behaviour of Core and that of the gateway."""
        lines = section(REFERENCE, "Differences from Core").splitlines()
        table = [line for line in lines if line.startswith("|")]
        assert table[0] == "| | Core | here |"
        assert len(table) > 15


class TestArchitecture:
    def test_every_place_that_the_index_names_is_defined_there(self) -> None:
        """Each row names a definition, in the module that defines it and not in one that imports it."""
        rows_of_index = [line for line in index().splitlines() if line.startswith("| ")]
        places = _PLACE.findall(index())
        assert len(places) > 45
        assert [row for row in rows_of_index if "`" in row and not _PLACE.search(row)] == []
        assert [place for place in places if not defines(ARCHITECTURE.parent / place[0], place[1])] == []

    def test_each_question_of_the_index_is_asked_once(self) -> None:
        """No question has two rows, because their places could differ."""
        asked = [line.split("|")[1].strip() for line in index().splitlines() if line.startswith("| ")]
        assert sorted(set(asked)) == sorted(asked)

    @pytest.mark.parametrize(
        ("module", "name", "defined"),
        [
            ("policy/decisions.py", "authenticate", True),
            ("policy/principals.py", "ApiKey.state", True),
            ("proxy/errors.py", "CODES", True),
            ("policy/decisions.py", "authenticated", False),
            ("policy/principals.py", "ApiKey.states", False),
            ("policy/decisions.py", "holds", False),
            ("policy/nothing.py", "authenticate", False),
        ],
    )
    def test_a_name_that_is_not_defined_is_noticed(self, module: str, name: str, defined: bool) -> None:
        """The check does not accept a name that is only imported, for example."""
        assert defines(ARCHITECTURE.parent / module, name) is defined

    def test_every_package_has_a_row(self) -> None:
        """The table names every package and nothing else."""
        packages = {
            found.parent.relative_to(ARCHITECTURE.parent).as_posix() + "/"
            for found in ARCHITECTURE.parent.rglob("__init__.py")
        }
        modules = {"errors.py", "durations.py", "ip_addresses.py", "socket_deadline.py"}
        listed = re.findall(r"^\| `([\w./]+)` \|", section(ARCHITECTURE, "Packages"), re.MULTILINE)
        assert sorted(listed) == sorted(packages - {"./"} | modules)


def index() -> str:
    return section(ARCHITECTURE, "Where does X happen")


class TestExamples:
    def test_the_policy_has_one(self) -> None:
        """The page of the policy has an example, so the next test checks something."""
        assert [case.id for case in examples() if case.id.startswith("deploy/policy.md")] != []

    @pytest.mark.parametrize("block", examples())
    def test_every_example_of_gateway_yaml_loads(self, block: str) -> None:
        """An example is accepted as by `check`, once the sections that it leaves out are filled in."""
        config = parse_config(complete(block).encode(), Path("gateway.yaml"), {}, secrets=False)
        assert config.routes.routes != ()


class TestReadme:
    def test_it_is_read_in_ten_minutes(self) -> None:
        """Everything that a stranger does not need first is on another page."""
        assert len(text_of(README).splitlines()) < 200

    def test_its_first_command_runs_as_it_is(self) -> None:
        """It has nothing to fill in, and it has to be given in a clone, whose address is not known here."""
        command = blocks(README, "sh")[0]
        assert re.findall(r"\.\.\.|[$<>]|[A-Z]{3,}", command) == []
        assert command.count("\n") == 1

    @pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
    def test_it_leads_to_every_document(self, document: Path) -> None:
        """A reader who has only the README finds every other page."""
        links = {link.partition("#")[0] for link in _LINK.findall(prose(README))}
        assert document == README or name_of(document) in links

    def test_every_page_is_checked(self) -> None:
        """No page can be added without the checks of links, names and examples."""
        folders = (ROOT, ROOT / "deploy", CHART.parent, ARCHITECTURE.parent, SUITE.parent)
        assert {page for folder in folders for page in folder.glob("*.md")} - set(DOCUMENTS) == set()


class TestNames:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
    def test_every_link_leads_somewhere(self, document: Path) -> None:
        """Relative links and their anchors exist; web addresses are not checked."""
        broken = []
        for link in _LINK.findall(prose(document)):
            if re.match(r"https?:", link):
                continue
            file, _, anchor = link.partition("#")
            target = document.parent / file if file else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(link)
        assert broken == []

    @pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
    def test_every_file_that_is_named_exists(self, document: Path) -> None:
        """A file name is relative to the document's own folder or to the top level."""
        named = {name.partition("::")[0] for name in _QUOTED.findall(prose(document))}
        files = {name for name in named if _FILE.fullmatch(name)}
        places = (document.parent, ROOT)
        assert {name for name in files if not any((place / name).exists() for place in places)} == set()

    def test_every_test_that_is_named_exists(self) -> None:
        """Every test that the threat model names exists."""
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", text_of(SUITE))
        assert len(named) > 30
        assert [
            name for file, name in named if not re.search(rf"def {name}\(", text_of(ROOT / "tests" / file))
        ] == []
