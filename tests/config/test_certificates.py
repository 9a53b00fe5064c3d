"""The files of certificates that the settings name: used together, or refused in words."""

from __future__ import annotations

import ssl
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, parse_config
from gateway.config.certificates import KeyPair, PemFile, server_context
from tests.tls import Authority, Issued, program

FILE = """\
upstream: {url: "https://core", master_key: "${KEY}"}
keys: {store: "memory://"}
routes: {GET /health: public}
tls: {%s}
"""
WITHOUT_TLS = FILE.replace("tls: {%s}\n", "")
BROKEN = "-----BEGIN CERTIFICATE-----\nno base64\n-----END CERTIFICATE-----\n"
NO_CERTIFICATE = "the file holds no certificate in PEM, or one that cannot be read"
NO_KEY = "the file holds no private key in PEM that can be read without a password"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("gateway", "localhost")


def parse(text: str, *, secrets: bool = True) -> Config:
    return parse_config(text.encode(), Path("gateway.yaml"), {"KEY": "k"}, secrets=secrets)


def with_tls(certificate: Path, key: Path, more: str = "") -> str:
    return FILE % f"certificate: {certificate}, key: {key}{more}"


def problems(text: str, *, secrets: bool = True) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parse(text, secrets=secrets)
    return [str(problem).removeprefix("gateway.yaml:4: ") for problem in refused.value.problems]


def test_a_certificate_and_its_key_are_accepted(authority: Authority, issued: Issued) -> None:
    config = parse(with_tls(issued.certificate, issued.key, f", client_ca: {authority.certificate}"))
    assert (config.tls.speaks("listen"), config.tls.speaks("admin"), config.warnings) == (True, False, ())


def test_the_key_of_another_certificate_is_refused(authority: Authority, issued: Issued) -> None:
    other = authority.issue("other")
    assert problems(with_tls(issued.certificate, other.key)) == ["tls.key: is not the key of tls.certificate"]


def test_files_are_read_only_where_secrets_are_needed(tmp_path: Path) -> None:
    """The file may be for another machine, unless it is checked with --env."""
    text = with_tls(tmp_path / "absent", tmp_path / "absent")
    parse(text, secrets=False)
    assert problems(text) == ["tls.certificate: the file cannot be read: No such file or directory"]


@pytest.mark.parametrize("content", ["", BROKEN])
@pytest.mark.parametrize("setting", ["tls.certificate", "tls.key", "tls.client_ca"])
def test_a_file_that_holds_something_else_is_refused(
    authority: Authority, issued: Issued, setting: str, content: str
) -> None:
    files = {
        "tls.certificate": issued.certificate,
        "tls.key": issued.key,
        "tls.client_ca": authority.certificate,
    }
    files[setting].write_text(content)
    text = (
        NO_KEY if setting == "tls.key" else "the file holds no certificate in PEM, or one that cannot be read"
    )
    client_ca = f", client_ca: {authority.certificate}"
    assert problems(with_tls(issued.certificate, issued.key, client_ca)) == [f"{setting}: {text}"]


def test_authorities_may_have_comments_in_any_language(authority: Authority, issued: Issued) -> None:
    text = "# Autorit\u00e9 de Z\u00fcrich\n" + authority.certificate.read_text()
    authority.certificate.write_text(text, encoding="utf-8")
    config = parse(with_tls(issued.certificate, issued.key, f", client_ca: {authority.certificate}"))
    assert config.warnings == ()
    server_context(
        KeyPair(PemFile("", issued.certificate), PemFile("", issued.key)), config.tls.client_authorities
    )


def test_an_authority_that_openssl_cannot_read_is_refused(authority: Authority, issued: Issued) -> None:
    """Its name has a type that no name may have; the library that reads it first does not look at it."""
    der = ssl.PEM_cert_to_DER_cert(authority.certificate.read_text())
    name = bytes.fromhex("0603550403")
    broken = der.replace(name + b"\x0c", name + b"\x01")
    authority.certificate.write_text(ssl.DER_cert_to_PEM_cert(broken))
    assert problems(with_tls(issued.certificate, issued.key, f", client_ca: {authority.certificate}")) == [
        "tls.client_ca: OpenSSL cannot read a certificate of the file"
    ]


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(issued: Issued) -> None:
    """OpenSSL would ask for it on the terminal, and the gateway would never start."""
    command = [program("openssl"), "pkey", "-in", str(issued.key), "-aes256", "-passout", "pass:secret"]
    encrypted = subprocess.run(command, check=True, capture_output=True).stdout
    issued.key.write_bytes(encrypted)
    assert problems(with_tls(issued.certificate, issued.key)) == [f"tls.key: {NO_KEY}"]


@pytest.mark.parametrize(
    ("ends_in", "begin"),
    [
        (timedelta(days=31), None),
        (timedelta(days=29, hours=1), "tls.certificate: the certificate ends in 29 days, on "),
        (timedelta(days=-1), "tls.certificate: the certificate ended on "),
    ],
)
def test_one_that_ends_within_30_days_or_has_ended_is_a_warning(
    authority: Authority, ends_in: timedelta, begin: str | None
) -> None:
    """It is no problem: a restart would be an outage for clients that do not look at its end."""
    issued = authority.issue("gateway", ends_in=ends_in)
    found = parse(with_tls(issued.certificate, issued.key)).warnings
    assert [warning.text.startswith(str(begin)) for warning in found] == ([] if begin is None else [True])


def test_that_of_core_is_checked_as_well(authority: Authority, issued: Issued) -> None:
    """The certificate that the gateway shows to Core is refused, or warned of, under its own name."""
    soon = authority.issue("soon", ends_in=timedelta(days=5, hours=1))
    text = WITHOUT_TLS.replace('KEY}"', 'KEY}", certificate: %s, key: %s')
    assert problems(text % (issued.certificate, soon.key)) == [
        "gateway.yaml:1: upstream.key: is not the key of upstream.certificate"
    ]
    (warning,) = parse(text % (soon.certificate, soon.key)).warnings
    at = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 5 * 86400 + 3600))
    assert f"upstream.certificate: the certificate ends in 5 days, on {at}" in warning.text


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("certificate: c", "tls.certificate: this needs tls.key as well: write both"),
        ("key: k", "tls.key: this needs tls.certificate as well: write both"),
        (
            "client_ca: a",
            "tls.client_ca: nothing speaks TLS without tls.certificate and tls.key: write both",
        ),
        (
            "listeners: [admin]",
            "tls.listeners: nothing speaks TLS without tls.certificate and tls.key: write both",
        ),
        (
            "certificate: c, key: k, listeners: []",
            "tls.listeners: write at least one of listen, admin and health, as [listen]",
        ),
        ("certificate: c, key: k, listeners: [web]", "tls.listeners: write listen or admin or health"),
        (
            "certificate: c, key: k, listeners: [health]",
            "tls.listeners: there is no health listener: write its address, or remove it here",
        ),
    ],
)
def test_a_setting_of_tls_without_a_use_is_refused(tls: str, expected: str) -> None:
    assert problems(FILE % tls, secrets=False) == [expected]


def test_client_ca_for_the_health_listener_alone_is_refused() -> None:
    """The health listener never asks for a certificate, so nobody would be asked."""
    text = "health: 127.0.0.1:5003\n" + FILE % "certificate: c, key: k, client_ca: a, listeners: [health]"
    assert problems(text, secrets=False) == [
        "gateway.yaml:5: tls.client_ca: nobody is asked for a certificate: health never asks; write listen "
        "or admin in tls.listeners"
    ]


@pytest.mark.parametrize("setting", ["ca_file: a", "certificate: c, key: k"])
def test_certificates_for_a_core_without_tls_are_refused(setting: str) -> None:
    text = WITHOUT_TLS.replace("https://core", "http://core")
    found = problems(text.replace('KEY}"', f'KEY}}", {setting}'), secrets=False)
    assert {problem.partition(": upstream.url is http://: ")[2] for problem in found} == {
        "write https://, or remove this"
    }
