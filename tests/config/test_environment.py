"""The environment overrides settings, and fills in variables inside values."""

from __future__ import annotations

import pytest

from gateway.config.environment import (
    Unset,
    has_unbraced_name,
    is_only_a_name,
    overrides,
    replace_references,
    variable,
)
from gateway.config.values import BadValueError

PATHS = ("listen", "upstream.url", "upstream.master_key", "timeouts.first_byte")


def test_the_variable_of_the_build_is_ignored() -> None:
    """BLNK_GATEWAY_COMPILE may still be set when the gateway starts; a name like it is a mistake."""
    environ = {"BLNK_GATEWAY_COMPILE": "1", "BLNK_GATEWAY_COMPILED": "1"}
    assert overrides(environ, PATHS) == ({}, (("BLNK_GATEWAY_COMPILED", "no such setting: remove it"),))


def test_a_variable_names_the_path_of_its_setting() -> None:
    assert variable("upstream.master_key") == "BLNK_GATEWAY_UPSTREAM__MASTER_KEY"


def test_overrides_are_found_by_path_and_other_names_left_alone() -> None:
    environ = {"BLNK_GATEWAY_LISTEN": "a", "BLNK_GATEWAY_TIMEOUTS__FIRST_BYTE": "", "BLNK_MASTER_KEY": "x"}
    assert overrides(environ, PATHS) == ({"listen": "a", "timeouts.first_byte": ""}, ())


def service(base: str) -> dict[str, str]:
    """Return the variables that Kubernetes injects for a Service with two named ports."""
    link = "tcp://10.0.0.9:5002"
    return {
        f"{base}_SERVICE_HOST": "10.0.0.9",
        f"{base}_SERVICE_PORT": "5002",
        f"{base}_SERVICE_PORT_HTTP_ADMIN": "5002",
        f"{base}_PORT": link,
        f"{base}_PORT_5002_TCP": link,
        f"{base}_PORT_5002_TCP_PROTO": "tcp",
        f"{base}_PORT_5002_TCP_PORT": "5002",
        f"{base}_PORT_5002_TCP_ADDR": "10.0.0.9",
        f"{base}_PORT_5353_UDP": "udp://10.0.0.9:5353",
    }


BASES = (
    "BLNK_GATEWAY", "BLNK_GATEWAY_ADMIN", "BLNK_GATEWAY_X", "BLNK_GATEWAY_KEYS", "BLNK_GATEWAY_UPSTREAM_URL",
    "BLNK_GATEWAY_SERVICE", "BLNK_GATEWAY_PORT", "BLNK_GATEWAY__A",
)  # fmt: skip


@pytest.mark.parametrize("base", BASES)
def test_what_kubernetes_injects_for_a_service_is_ignored(base: str) -> None:
    assert overrides(service(base), PATHS) == ({}, ())


def test_the_services_of_one_namespace_are_ignored_together() -> None:
    injected = {name: text for base in BASES for name, text in service(base).items()}
    assert overrides(injected, PATHS) == ({}, ())


def test_a_setting_is_read_beside_a_service_of_its_name() -> None:
    environ = service("BLNK_GATEWAY_LISTEN") | {"BLNK_GATEWAY_LISTEN": "0.0.0.0:5001"}
    assert overrides(environ, PATHS) == ({"listen": "0.0.0.0:5001"}, ())


def test_a_typo_is_refused_beside_services() -> None:
    environ = service("BLNK_GATEWAY") | {"BLNK_GATEWAY_LISTN": "x", "BLNK_GATEWAY_ADMIN_PORT": "5002"}
    assert [name for name, _ in overrides(environ, PATHS)[1]] == [
        "BLNK_GATEWAY_ADMIN_PORT",
        "BLNK_GATEWAY_LISTN",
    ]


@pytest.mark.parametrize("missing", ["SERVICE_HOST", "SERVICE_PORT"])
def test_without_both_marks_of_a_service_its_shape_is_refused(missing: str) -> None:
    environ = service("BLNK_GATEWAY_X")
    del environ[f"BLNK_GATEWAY_X_{missing}"]
    assert [name for name, _ in overrides(environ, PATHS)[1]] == sorted(environ)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BLNK_GATEWAY_LISTN", "no such setting: did you mean BLNK_GATEWAY_LISTEN?"),
        ("BLNK_GATEWAY_UPSTREAM_URL", "no such setting: did you mean BLNK_GATEWAY_UPSTREAM__URL?"),
        ("BLNK_GATEWAY_", "no such setting: remove it"),
        ("BLNK_GATEWAY_SERVICE_HOST", "no such setting: remove it"),
        ("BLNK_GATEWAY_PORT_x_TCP", "no such setting: remove it"),
        (
            "BLNK_GATEWAY_ROUTES",
            "routes are not taken from the environment: write them in the file",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, text: str) -> None:
    assert overrides({name: "value"}, PATHS) == ({}, ((name, text),))


def test_a_name_that_a_terminal_could_not_show_is_not_repeated() -> None:
    name = "BLNK_GATEWAY_\x1b[2J"
    assert overrides({name: ""}, PATHS)[1] == (("BLNK_GATEWAY_*", "no such setting: remove it"),)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("plain $5 $HOME {x}", "plain $5 $HOME {x}"),
        ("${A}", "1"),
        ("x${A}y${B}", "x1y${A}"),
        ("${A}${MISSING}", Unset("MISSING")),
        ("${EMPTY}", Unset("EMPTY", empty=True)),
    ],
)
def test_variables_are_replaced_once(text: str, outcome: str | Unset) -> None:
    assert replace_references(text, {"A": "1", "B": "${A}", "EMPTY": ""}) == outcome


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1}", "${A-default}", "${\u00c4}"])
def test_what_only_begins_like_a_variable_is_refused(text: str) -> None:
    with pytest.raises(BadValueError, match=r"^write a variable as \$\{NAME\}: letters, digits and _$"):
        replace_references(text, {"A": "1"})


@pytest.mark.parametrize(
    ("text", "unbraced", "alone"),
    [
        ("$BLNK_MASTER_KEY", True, True),
        ("${BLNK_MASTER_KEY}", False, True),
        ("redis://:$PASSWORD@host", True, False),
        ("${A}$B", True, False),
        ("pa$5", False, False),
        ("pa$", False, False),
        ("${A}", False, True),
        ("", False, False),
    ],
)
def test_a_name_in_place_of_its_value_is_recognised(text: str, unbraced: bool, alone: bool) -> None:
    assert (has_unbraced_name(text), is_only_a_name(text)) == (unbraced, alone)
