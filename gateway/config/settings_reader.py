"""Reads each setting from the environment, the file or its default; collects every problem on the way.

Rules kept here:
- The environment wins over the file, setting by setting; the file's value is then not read.
- Unknown keys are refused. A problem never repeats a value, and repeats a key only if it looks like a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.config import environment, model
from gateway.config.file_values import FileValues
from gateway.config.setting import Setting
from gateway.config.settings_draft import MASTER_KEYS, SettingsDraft
from gateway.config.suggestions import nearest
from gateway.config.values import BadValueError, Raw
from gateway.config.yaml_document import YamlEntry, YamlMapping, YamlNode, YamlRefused
from gateway.policy.problems import Problem

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}", re.ASCII)


class SettingsReader:
    """One pass over a document and the environment; values and problems go to the draft."""

    def __init__(self, draft: SettingsDraft, environ: Mapping[str, str], *, secrets: bool) -> None:
        """Read the overrides; an unknown variable is a problem at once."""
        self._draft = draft
        self._file_values = FileValues(draft, environ, secrets=secrets)
        self._settings = model.settings()
        self._overrides, unknown = environment.overrides(environ, self._settings)
        draft.problems += [Problem(0, text, name) for name, text in unknown]

    def read(self, top: YamlMapping) -> YamlNode | None:
        """Read every setting of the document; return the node of `routes`, which has a reader of its own."""
        single = [path for path in self._settings if "." not in path]
        entries = self._known(top, "", (*single, *model.sections(), "routes"))
        for path in single:
            self._read_setting(path, entries.get(path))
        for name in model.sections():
            self._read_section(name, entries.get(name))
        return entries["routes"].value if "routes" in entries else None

    def _known(self, mapping: YamlMapping, prefix: str, known: Iterable[str]) -> dict[str, YamlEntry]:
        """Return the entries by key; refuse those with an unknown key."""
        names = tuple(known)
        for entry in mapping.entries:
            if entry.key not in names:
                self._draft.refuse(entry.line, self._unknown(entry.key, prefix, names))
        return {entry.key: entry for entry in mapping.entries}

    def _unknown(self, key: str, prefix: str, known: tuple[str, ...]) -> str:
        expected = f"known here are {', '.join(known)}"
        if not _KEY.fullmatch(key):
            return f"unknown key; {expected}"
        elsewhere = [f"; did you mean '{path}'?" for path in self._settings if path.endswith(f".{key}")]
        return f"unknown key '{prefix}{key}'" + (
            nearest(key, known) or "".join(elsewhere[:1]) or f"; {expected}"
        )

    def _read_section(self, name: str, entry: YamlEntry | None) -> None:
        paths = [path for path in self._settings if path.startswith(f"{name}.")]
        entries: dict[str, YamlEntry] = {}
        if entry is not None and isinstance(entry.value, YamlMapping):
            entries = self._known(entry.value, f"{name}.", (path[len(name) + 1 :] for path in paths))
        elif entry is not None:
            if not isinstance(entry.value, YamlRefused):
                self._draft.refuse(
                    entry.line, f"{name}: write its settings below it, indented, as 'key: value'"
                )
            # One problem is enough: missing settings of this section are not reported on top.
            refused = YamlEntry("", YamlRefused(entry.line), entry.line)
            entries = {path[len(name) + 1 :]: refused for path in paths}
        if any(path in self._overrides for path in MASTER_KEYS):
            # An override of either setting is the one master key: both settings of the file are ignored.
            entries = {key: value for key, value in entries.items() if f"{name}.{key}" not in MASTER_KEYS}
        for path in paths:
            self._read_setting(path, entries.get(path[len(name) + 1 :]), entry.line if entry else 1)

    def _read_setting(self, path: str, entry: YamlEntry | None, section_line: int = 1) -> None:
        setting = self._settings[path]
        self._draft.values[path] = setting.default
        if path in self._overrides:
            self._parse(path, setting, self._from_environment(path, setting, self._overrides[path]))
        elif entry is not None:
            self._draft.places[path] = (self._draft.file, entry.line)
            self._parse(path, setting, self._file_values.read(path, setting, entry.value))
        elif setting.example:
            name = path.rpartition(".")[2]
            self._draft.refuse(section_line, f"{path} is missing: write '{name}: {setting.example}'")

    def _parse(self, path: str, setting: Setting, raw: Raw | None) -> None:
        if raw is None:
            if path not in self._draft.unset:
                self._draft.values[path] = None
            return
        try:
            self._draft.values[path] = setting.parse(raw)
        except BadValueError as error:
            self._draft.values[path] = None
            self._draft.refuse_setting(path, str(error))

    def _from_environment(self, path: str, setting: Setting, text: str) -> Raw | None:
        if not text and setting.default is None:
            return None
        self._draft.places[path] = (environment.variable(path), 0)
        if not text.isprintable():
            self._draft.refuse_setting(path, "there is a control character or a line break here: remove it")
            return None
        if setting.many:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return text
