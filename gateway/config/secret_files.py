"""Reads the secret files that the settings name, and checks the files of certificates.

Rules kept here:
- No file is read unless secrets are asked for: the file may be checked on another machine.
- A certificate and its key are refused if they cannot be used; one that ends soon, or has, is a warning.
- A token that could be guessed and a master key that is the name of a variable are warnings.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from gateway.config import environment, secret_values
from gateway.config.certificates import (
    CertificateError,
    core_context,
    end_of,
    end_text,
    server_context,
)
from gateway.config.secret_values import Secret
from gateway.config.sections.tls import TlsConfig
from gateway.config.sections.upstream import UpstreamConfig
from gateway.config.settings_draft import MASTER_KEYS, UNREPLACED, SettingsDraft
from gateway.config.values import BadValueError
from gateway.keys.redis.url import TLS_OPTIONS

NEXT_KEY_FILE = "upstream.master_key_next_file"
SECRET_FILES = ("upstream.master_key_file", "admin_token_file")
PEM_FILES = (
    "tls.certificate",
    "tls.key",
    "tls.client_ca",
    "upstream.ca_file",
    "upstream.certificate",
    "upstream.key",
)
LEAST_TOKEN = 16
"""Characters of a token that cannot be guessed: 96 bits, at 6 for each character."""
CERTIFICATES = {
    "keys.store": TLS_OPTIONS,
    "keys.core_database": ("sslrootcert", "sslcert", "sslkey", "sslcrl"),
}
"""The options of a URL that name files of certificates."""


def locate_files(draft: SettingsDraft, folder: Path) -> None:
    """Make relative paths start at `folder`, which is that of the configuration."""
    for path in (*SECRET_FILES, NEXT_KEY_FILE, *PEM_FILES):
        if draft.values[path] is not None:
            draft.values[path] = folder / draft.values[path]


def read_files(draft: SettingsDraft, now: float) -> None:
    """Read the secret files and certificates; `now` is in Unix seconds."""
    _read_secret_files(draft)
    _check_next_key(draft)
    _read_certificates(draft, now)
    _check_certificates(draft)
    _warn_of_unreplaced_key(draft)


def _read_secret_files(draft: SettingsDraft) -> None:
    for path in SECRET_FILES:
        if draft.values[path] is None:
            continue
        try:
            secret = secret_values.read_secret(draft.values[path])
        except BadValueError as error:
            draft.refuse_setting(path, str(error))
        else:
            if path in MASTER_KEYS:
                draft.values["upstream.master_key"] = secret
            elif len(secret.reveal()) < LEAST_TOKEN:
                text = f"the token is short enough to be guessed: write at least {LEAST_TOKEN} characters"
                draft.warn_setting(path, text)


def _check_next_key(draft: SettingsDraft) -> None:
    """Refuse a file of the next master key that holds no key; it may be absent or empty."""
    file = draft.values[NEXT_KEY_FILE]
    if file is None:
        return
    try:
        secret_values.read_optional_secret(file)
    except BadValueError as error:
        draft.refuse_setting(NEXT_KEY_FILE, str(error))
    else:
        if not file.parent.is_dir():
            draft.warn_setting(
                NEXT_KEY_FILE, "its folder does not exist: the next key could not be written there"
            )


def _read_certificates(draft: SettingsDraft, now: float) -> None:
    tls = TlsConfig(**draft.section("tls"))
    upstream = UpstreamConfig(**draft.section("upstream"))
    try:
        if tls.pair is not None:
            server_context(tls.pair, tls.client_authorities)
        if upstream.pair is not None or upstream.authorities is not None:
            core_context(upstream.authorities, upstream.pair)
        for pair in filter(None, (tls.pair, upstream.pair)):
            if text := end_text(end_of(pair.certificate), now):
                draft.warn_setting(pair.certificate.setting, text)
    except CertificateError as error:
        draft.refuse_setting(error.setting, str(error))


def _check_certificates(draft: SettingsDraft) -> None:
    """Refuse a URL that names a file which cannot be read; its content is checked where it is used."""
    for path, options in CERTIFICATES.items():
        # urllib does not parse a URL of several hosts with IPv6 addresses among them.
        _, _, query = (draft.values[path] or "").partition("?")
        named = dict(parse_qsl(query))
        for option in filter(named.get, options):
            try:
                Path(named[option]).open("rb").close()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "this is not a path"
                draft.refuse_setting(path, f"the file of {option} cannot be read: {reason}")


def _warn_of_unreplaced_key(draft: SettingsDraft) -> None:
    """Warn of a master key that is the name of a variable, wherever it came from."""
    key = draft.values["upstream.master_key"]
    if isinstance(key, Secret) and environment.is_only_a_name(key.reveal()):
        draft.warn_setting(next(path for path in MASTER_KEYS if path in draft.places), UNREPLACED)
