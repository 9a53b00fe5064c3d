"""`completion` in a real bash, and the pages of `man` under a real groff."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.cli.man_pages import man_pages

# Beside the interpreter, so that bash finds the command that is tested.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
COMPLETE = """\
eval "$(blnk-gateway completion bash)"
COMP_WORDS=(blnk-gateway "$@")
COMP_CWORD=$#
function=$(complete -p blnk-gateway | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" blnk-gateway "${!#}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def commands(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its names below `blnk-gateway`."""
    yield names, command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, *names, name)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all pages, which the command has made."""
    directory = tmp_path_factory.mktemp("man") / "man1"
    assert run("man", directory).exit_code == 0
    return directory


class TestCompletion:
    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            (("d",), {"demo", "denials", "diff"}),
            (("keys", "re"), {"revoke"}),
            (("keys", "create", "--ex"), {"--expires"}),
            (("keys", "list", "--output", ""), {"table", "json"}),
            (("nothing",), set()),
        ],
        ids=" ".join,
    )
    def test_bash_completes(self, typed: tuple[str, ...], offered: set[str]) -> None:
        """The script offers commands, commands of a group, options and their values."""
        done = subprocess.run(
            ["bash", "--norc", "-c", COMPLETE, "bash", *typed],
            env={**os.environ, "PATH": PATH},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert (set(done.stdout.split()), done.stderr) == (offered, "")

    @pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef blnk-gateway"), ("fish", "complete ")])
    def test_the_scripts_of_other_shells_ask_the_same_program(self, shell: str, sign: str) -> None:
        """Each is in the language of its shell, and sets the variable that click reads."""
        done = run("completion", shell)
        assert (done.exit_code, done.stderr) == (0, "")
        assert sign in done.stdout
        assert f"_BLNK_GATEWAY_COMPLETE={shell}_complete" in done.stdout

    def test_another_shell_is_refused(self) -> None:
        done = run("completion", "tcsh")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.stderr


class TestManPages:
    def test_every_command_has_a_page(self, pages: Path) -> None:
        """A page is named after the command, with hyphens, as git does."""
        names = {"-".join(("blnk-gateway", *names)) + ".1" for names, _ in commands(cli)}
        assert {page.name for page in pages.iterdir()} == names

    @pytest.mark.groff
    def test_groff_has_no_warning(self, pages: Path) -> None:
        """With every warning on, groff says nothing about any page."""
        program = shutil.which("groff")
        if program is None:
            pytest.skip("no groff is installed")
        done = subprocess.run(
            [program, "-man", "-Tutf8", "-ww", "-z", *sorted(pages.iterdir())],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == ("", "")

    @pytest.mark.groff
    def test_a_page_shows_what_help_shows(self, pages: Path) -> None:
        """Each option and each line of an example is on the page as it is typed."""
        program = shutil.which("groff")
        if program is None:
            pytest.skip("no groff is installed")
        page = pages / "blnk-gateway-keys-create.1"
        shown = subprocess.run(
            [program, "-man", "-Tascii", "-P-cbou", page],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        command = dict(commands(cli))[("keys", "create")]
        examples = [line.strip() for line in (command.help or "").splitlines() if "blnk-gateway keys" in line]
        options = [name for option in command.params for name in option.opts]
        assert len(examples) == 3
        assert [text for text in (*examples, *options, "-h, --help") if text not in shown] == []

    def test_text_of_a_command_is_never_a_macro(self) -> None:
        """A line of help that begins with a dot or quote, or has a backslash, is shown as it is."""
        command = click.Command("odd", help="\b\n.so /etc/passwd\n'quoted'\n\\fBback\\fR\n")
        page = man_pages(command, "odd", "1")["odd"]
        body = page.partition(".nf\n")[2].partition(".fi\n")[0]
        assert body == "\\&.so /etc/passwd\n\\(aqquoted\\(aq\n\\efBback\\efR\n"

    def test_pages_of_an_older_version_are_replaced(self, pages: Path) -> None:
        page = pages / "blnk-gateway-init.1"
        written = page.read_text()
        page.write_text("old")
        assert run("man", pages).exit_code == 0
        assert page.read_text() == written

    def test_a_directory_that_cannot_be_made_is_reported(self, tmp_path: Path) -> None:
        """The command exits with 2 and says why."""
        (tmp_path / "file").write_text("")
        done = run("man", tmp_path / "file" / "man1")
        assert (done.exit_code, done.stderr) == (
            2,
            f"{tmp_path}/file/man1: cannot be written: Not a directory\n",
        )
