"""Each setting from the environment, the file or its default, and every problem met on the way.

Rules kept here:
- The environment wins over the file, setting by setting; the file's own value is then not looked at.
- Unknown keys are refused; a text never repeats a value, and a key only if it looks like one.
- A variable that a value names is needed only where secrets are asked for.
- A secret that the file shows, and a `$NAME` in the place of one, are taken as they stand, with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.config import environment, model, values, yaml_document
from gateway.config.environment import Unset
from gateway.config.model import Setting
from gateway.config.route_reader import nearest
from gateway.config.values import BadValueError, Raw
from gateway.config.yaml_document import YamlEntry, YamlList, YamlNode, YamlRefused, YamlScalar
from gateway.policy.problems import Problem

Location = tuple[str, int]
"""Where a setting is given: the file and its line, or the variable and 0."""

MASTER_KEYS = ("upstream.master_key", "upstream.master_key_file")
UNREPLACED = "'$NAME' is taken as it stands: in gateway.yaml, write ${NAME} for the value of a variable"
IN_CLEAR = "a secret stands here in clear: write ${NAME}, and hand it over in a variable of the environment"

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}", re.ASCII)
_TAKE_ANY_TEXT = (values.secret, values.path, values.store_url, values.database_url)
"""The parsers that let a `$NAME` pass."""
_PASSWORD = re.compile(r"://[^/@]*:(?!\$\{)[^/@]+@|password=(?!\$\{)[^&]")
"""A password in clear in a URL."""


class SettingsReader:
    """One pass over a document; problems and warnings are appended as they are met; a refused value is None.

    `values` holds each setting by its path, `places` where those that are given stand, `unset` those whose
    variable the environment does not hold, `routes` the node of that section.
    """

    def __init__(self, file: str, environ: Mapping[str, str], *, secrets: bool) -> None:
        """`file` is what problems name; unknown variables of the environment are problems at once."""
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.values: dict[str, Any] = {}
        self.places: dict[str, Location] = {}
        self.unset: set[str] = set()
        self._file = file
        self._environ = environ
        self._secrets = secrets
        self._settings = model.settings()
        self._overrides, unknown = environment.overrides(environ, self._settings)
        for name, text in unknown:
            self.problems.append(Problem(0, text, name))

    def refuse(self, line: int, text: str) -> None:
        """Note a problem of the file."""
        self.problems.append(Problem(line, text, self._file))

    def refuse_setting(self, path: str, text: str) -> None:
        """Note a problem of a setting that is given, where it is given."""
        self.problems.append(self._of_setting(path, text))

    def warn(self, line: int, text: str) -> None:
        """Note what the file says and is seldom meant."""
        self.warnings.append(Problem(line, text, self._file))

    def warn_setting(self, path: str, text: str) -> None:
        """Note what a setting that is given says and is seldom meant."""
        self.warnings.append(self._of_setting(path, text))

    def _of_setting(self, path: str, text: str) -> Problem:
        source, line = self.places[path]
        return Problem(line, f"{path}: {text}" if line else text, source)

    def settings(self, top: yaml_document.YamlMapping) -> YamlNode | None:
        """Read every setting of the document; gives back the node of `routes`."""
        single = [path for path in self._settings if "." not in path]
        entries = self._known(top, "", (*single, *model.sections(), "routes"))
        for path in single:
            self._setting(path, entries.get(path))
        for name in model.sections():
            self._section(name, entries.get(name))
        return entries["routes"].value if "routes" in entries else None

    def below(self, section: str) -> dict[str, Any]:
        """The values of one section by their names."""
        prefix = f"{section}."
        return {path[len(prefix) :]: self.values[path] for path in self.values if path.startswith(prefix)}

    def _known(
        self, mapping: yaml_document.YamlMapping, prefix: str, known: Iterable[str]
    ) -> dict[str, YamlEntry]:
        names = tuple(known)
        for entry in mapping.entries:
            if entry.key not in names:
                self.refuse(entry.line, self._unknown(entry.key, prefix, names))
        return {entry.key: entry for entry in mapping.entries}

    def _unknown(self, key: str, prefix: str, known: tuple[str, ...]) -> str:
        expected = f"known here are {', '.join(known)}"
        if not _KEY.fullmatch(key):
            return f"unknown key; {expected}"
        elsewhere = [f"; did you mean '{path}'?" for path in self._settings if path.endswith(f".{key}")]
        return f"unknown key '{prefix}{key}'" + (
            nearest(key, known) or "".join(elsewhere[:1]) or f"; {expected}"
        )

    def _section(self, name: str, entry: YamlEntry | None) -> None:
        paths = [path for path in self._settings if path.startswith(f"{name}.")]
        entries: dict[str, YamlEntry] = {}
        if entry is not None and isinstance(entry.value, yaml_document.YamlMapping):
            entries = self._known(entry.value, f"{name}.", (path[len(name) + 1 :] for path in paths))
        elif entry is not None:
            if not isinstance(entry.value, YamlRefused):
                self.refuse(entry.line, f"{name}: write its settings below it, indented, as 'key: value'")
            # One problem is enough: what it lacks is not reported on top.
            entries = {
                path[len(name) + 1 :]: YamlEntry("", YamlRefused(entry.line), entry.line) for path in paths
            }
        if any(path in self._overrides for path in MASTER_KEYS):
            # An override of either names the one master key; the file's stands back.
            entries = {key: value for key, value in entries.items() if f"{name}.{key}" not in MASTER_KEYS}
        for path in paths:
            self._setting(path, entries.get(path[len(name) + 1 :]), entry.line if entry else 1)

    def _setting(self, path: str, entry: YamlEntry | None, section_line: int = 1) -> None:
        setting = self._settings[path]
        self.values[path] = setting.default
        if path in self._overrides:
            self._parse(path, setting, self._from_environment(path, setting, self._overrides[path]))
        elif entry is not None:
            self.places[path] = (self._file, entry.line)
            self._parse(path, setting, self._from_file(path, entry.value))
        elif setting.example:
            name = path.rpartition(".")[2]
            self.refuse(section_line, f"{path} is missing: write '{name}: {setting.example}'")

    def _parse(self, path: str, setting: Setting, raw: Raw | None) -> None:
        if raw is None:
            if path not in self.unset:
                self.values[path] = None
            return
        try:
            self.values[path] = setting.parse(raw)
        except BadValueError as error:
            self.values[path] = None
            self.refuse_setting(path, str(error))

    def _from_environment(self, path: str, setting: Setting, text: str) -> Raw | None:
        if not text and setting.default is None:
            return None
        self.places[path] = (environment.variable(path), 0)
        if not text.isprintable():
            self.refuse_setting(path, "a control character or a line break stands here: take it out")
            return None
        if setting.many:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return text

    def _from_file(self, path: str, node: YamlNode) -> Raw | None:
        if isinstance(node, YamlScalar):
            return self._resolved(path, node)
        if isinstance(node, YamlList):
            items = [
                self._resolved(path, item) if isinstance(item, YamlScalar) else None for item in node.items
            ]
            if any(not isinstance(item, YamlScalar | YamlRefused) for item in node.items):
                self.refuse_setting(path, "a list holds plain values: take the inner list or mapping out")
            kept = tuple(item for item in items if item is not None)
            return kept if len(kept) == len(items) else None
        if isinstance(node, yaml_document.YamlMapping) and self._settings[path].mapped:
            return self._pairs(path, node)
        if not isinstance(node, YamlRefused):
            self.refuse_setting(path, "this is one value: write it on the line of its key")
        return None

    def _pairs(self, path: str, node: yaml_document.YamlMapping) -> Raw | None:
        pairs = []
        for entry in node.entries:
            if not isinstance(entry.value, YamlScalar):
                if not isinstance(entry.value, YamlRefused):
                    self.refuse(entry.line, f"{path}: write one value on the line of its key")
                return None
            value = self._resolved(path, entry.value)
            if value is None:
                return None
            pairs.append(f"{entry.key}={value}")
        return tuple(pairs)

    def _resolved(self, path: str, node: YamlScalar) -> str | int | bool | None:
        if not isinstance(node.value, str):
            return node.value
        self._look_at(path, node.value)
        try:
            text = environment.replace_references(node.value, self._environ)
        except BadValueError as error:
            self.refuse_setting(path, str(error))
            return None
        if not isinstance(text, Unset):
            return text
        self.unset.add(path)
        if self._secrets:
            state = "is empty in the environment" if text.empty else "is not set in the environment"
            self.refuse_setting(path, f"{text.name} {state}")
        return None

    def _look_at(self, path: str, written: str) -> None:
        """Warn of a secret that the file shows, and of a variable that it does not name as one."""
        parse = self._settings[path].parse
        if parse not in _TAKE_ANY_TEXT:
            return
        if environment.has_unbraced_name(written):
            self.warn_setting(path, UNREPLACED)
        elif _PASSWORD.search(written) or (parse is values.secret and "${" not in written):
            self.warn_setting(path, IN_CLEAR)
