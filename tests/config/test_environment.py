"""Overrides of settings, and variables inside values."""

from __future__ import annotations

import pytest

from gateway.config.environment import Unset, overrides, replace_references, variable
from gateway.config.values import BadValueError

PATHS = ("listen", "upstream.url", "upstream.master_key", "timeouts.first_byte")


def test_a_variable_names_the_path_of_its_setting() -> None:
    assert variable("upstream.master_key") == "BLNK_GATEWAY_UPSTREAM__MASTER_KEY"


def test_overrides_are_found_by_path_and_other_names_left_alone() -> None:
    environ = {"BLNK_GATEWAY_LISTEN": "a", "BLNK_GATEWAY_TIMEOUTS__FIRST_BYTE": "", "BLNK_MASTER_KEY": "x"}
    assert overrides(environ, PATHS) == ({"listen": "a", "timeouts.first_byte": ""}, ())


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP_ADMIN",
        "PORT",
        "PORT_5001_TCP",
        "PORT_5001_TCP_PROTO",
        "PORT_5001_TCP_PORT",
        "PORT_5001_UDP_ADDR",
    ],
)
def test_what_kubernetes_injects_for_a_service_is_left_alone(name: str) -> None:
    assert overrides({f"BLNK_GATEWAY_{name}": "x"}, PATHS) == ({}, ())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BLNK_GATEWAY_LISTN", "no such setting: did you mean BLNK_GATEWAY_LISTEN?"),
        ("BLNK_GATEWAY_UPSTREAM_URL", "no such setting: did you mean BLNK_GATEWAY_UPSTREAM__URL?"),
        ("BLNK_GATEWAY_", "no such setting: take it out"),
        ("BLNK_GATEWAY_PORT_x_TCP", "no such setting: take it out"),
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
    assert overrides({name: ""}, PATHS)[1] == (("BLNK_GATEWAY_*", "no such setting: take it out"),)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("plain $5 $HOME {x}", "plain $5 $HOME {x}"),
        ("${A}", "1"),
        ("x${A}y${B}", "x1y${A}"),
        ("${A}${MISSING}", Unset("MISSING")),
        ("${EMPTY}", Unset("EMPTY")),
    ],
)
def test_variables_are_replaced_once(text: str, outcome: str | Unset) -> None:
    assert replace_references(text, {"A": "1", "B": "${A}", "EMPTY": ""}) == outcome


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1}", "${A-default}", "${\u00c4}"])
def test_what_only_begins_like_a_variable_is_refused(text: str) -> None:
    with pytest.raises(BadValueError, match=r"^write a variable as \$\{NAME\}: letters, digits and _$"):
        replace_references(text, {"A": "1"})
