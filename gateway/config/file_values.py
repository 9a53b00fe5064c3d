"""Turns the YAML value of one setting into the plain value that its parser takes.

Rules kept here:
- `${NAME}` is replaced inside the value. A missing variable is a problem only if secrets are asked for.
- A secret in clear and a `$NAME` without braces are taken literally, with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gateway.config import environment, secret_values, urls, values
from gateway.config.environment import Unset
from gateway.config.setting import Setting
from gateway.config.settings_draft import UNREPLACED, SettingsDraft
from gateway.config.values import BadValueError, Raw
from gateway.config.yaml_document import YamlList, YamlMapping, YamlNode, YamlRefused, YamlScalar

IN_CLEAR = "this is a secret in clear: write ${NAME}, and set that environment variable"

_TAKE_ANY_TEXT = (secret_values.secret, values.path, urls.store_url, urls.database_url)
"""The parsers that do not refuse a `$NAME`."""
_PASSWORD = re.compile(r"://[^/@]*:(?!\$\{)[^/@]+@|password=(?!\$\{)[^&]")
"""A password in clear in a URL."""


class FileValues:
    """Reads the values of settings from the file; problems and warnings go to the draft."""

    def __init__(self, draft: SettingsDraft, environ: Mapping[str, str], *, secrets: bool) -> None:
        self._draft = draft
        self._environ = environ
        self._secrets = secrets

    def read(self, path: str, setting: Setting, node: YamlNode) -> Raw | None:
        """Return the plain value of the setting at `path`; None if it is refused or its variable is unset."""
        if isinstance(node, YamlScalar):
            return self._replaced(path, setting, node)
        if isinstance(node, YamlList):
            return self._list(path, setting, node)
        if isinstance(node, YamlMapping) and setting.mapped:
            return self._pairs(path, setting, node)
        if not isinstance(node, YamlRefused):
            self._draft.refuse_setting(path, "this is one value: write it on the line of its key")
        return None

    def _list(self, path: str, setting: Setting, node: YamlList) -> Raw | None:
        items = [
            self._replaced(path, setting, item) if isinstance(item, YamlScalar) else None
            for item in node.items
        ]
        if any(not isinstance(item, YamlScalar | YamlRefused) for item in node.items):
            self._draft.refuse_setting(path, "a list holds plain values: remove the inner list or mapping")
        kept = tuple(item for item in items if item is not None)
        return kept if len(kept) == len(items) else None

    def _pairs(self, path: str, setting: Setting, node: YamlMapping) -> Raw | None:
        pairs = []
        for entry in node.entries:
            if not isinstance(entry.value, YamlScalar):
                if not isinstance(entry.value, YamlRefused):
                    self._draft.refuse(entry.line, f"{path}: write one value on the line of its key")
                return None
            value = self._replaced(path, setting, entry.value)
            if value is None:
                return None
            pairs.append(f"{entry.key}={value}")
        return tuple(pairs)

    def _replaced(self, path: str, setting: Setting, node: YamlScalar) -> str | int | float | bool | None:
        """Return the value with its variables replaced."""
        if not isinstance(node.value, str):
            return node.value
        self._warn_of_secret(path, setting, node.value)
        try:
            text = environment.replace_references(node.value, self._environ)
        except BadValueError as error:
            self._draft.refuse_setting(path, str(error))
            return None
        if not isinstance(text, Unset):
            return text
        self._draft.unset.add(path)
        if self._secrets:
            state = "is empty in the environment" if text.empty else "is not set in the environment"
            self._draft.refuse_setting(path, f"{text.name} {state}")
        return None

    def _warn_of_secret(self, path: str, setting: Setting, written: str) -> None:
        """Warn of a secret in clear, and of a variable without braces."""
        if setting.parse not in _TAKE_ANY_TEXT:
            return
        if environment.has_unbraced_name(written):
            self._draft.warn_setting(path, UNREPLACED)
        elif _PASSWORD.search(written) or (setting.parse is secret_values.secret and "${" not in written):
            self._draft.warn_setting(path, IN_CLEAR)
