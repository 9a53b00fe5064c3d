"""Checks deploy/: the image has no privileges, only the gateway can be reached, systemd accepts the unit."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Config, load_config
from gateway.server.descriptors import fit
from gateway.server.sharing import why_not_shared
from tests.addresses import host_and_port
from tests.deploy.systemd import UNIT, of_instance, settings
from tests.running import ROOT

DEPLOY = ROOT / "deploy"
SECRETS = {"BLNK_MASTER_KEY": "a-master-key", "POSTGRES_PASSWORD": "a-password"}
CORE = ("core", "worker", "migrate")

Service = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of the Dockerfile, its lines joined."""

    name: str
    value: str


def instructions() -> list[Instruction]:
    text = (DEPLOY / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [Instruction(name.upper(), value) for name, value in pairs]


def last_stage() -> list[Instruction]:
    """Return the instructions of the last stage, from its FROM on."""
    found = instructions()
    start = max(number for number, instruction in enumerate(found) if instruction.name == "FROM")
    return found[start:]


def only(name: str) -> str:
    """Return the value of the only instruction of this name in the last stage."""
    [value] = [instruction.value for instruction in last_stage() if instruction.name == name]
    return value


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def services() -> dict[str, Service]:
    found: dict[str, Service] = compose()["services"]
    return found


def filled_in(value: object) -> str:
    """Return a value with its variables filled in, as `docker compose` would."""
    return re.sub(r"\$\{(\w+)[^}]*\}", lambda found: SECRETS[found[1]], str(value))


def gateway_config() -> Config:
    """Return the gateway's configuration in compose.yaml, from its environment and the file in its image."""
    environ = {name: filled_in(value) for name, value in services()["gateway"]["environment"].items()}
    return load_config(ROOT / "gateway.yaml", environ, secrets=True)


def overrides() -> list[dict[str, Service]]:
    """Return the services of every `compose.override.yaml` that the operating guide shows."""
    blocks = re.findall(r"```yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    shown = [textwrap.dedent(block) for block in blocks if "# compose.override.yaml" in block]
    return [yaml.safe_load(text)["services"] for text in shown]


# The image.


def test_the_image_is_slim_and_its_python_is_one_that_the_package_allows() -> None:
    """Every stage starts from the same slim image, which a digest can be pinned to."""
    images = {instruction.value.split()[0] for instruction in instructions() if instruction.name == "FROM"}
    assert images == {"${BASE}"}
    [base] = [instruction.value for instruction in instructions() if instruction.name == "ARG"]
    assert re.fullmatch(r"BASE=python:3\.1[1-9]-slim", base)


def test_the_image_installs_only_what_a_lock_file_names() -> None:
    """Each package comes with its hash; the gateway's own wheel is built without looking for others."""
    installs = [
        part
        for instruction in instructions()
        if instruction.name == "RUN"
        for part in instruction.value.split("&&")
        if re.search(r"pip (install|wheel)", part)
    ]
    assert len(installs) == 4
    assert [part for part in installs if "--require-hashes" not in part and "--no-deps" not in part] == []


def test_the_image_does_not_run_as_root() -> None:
    """The user is a number, which runAsNonRoot of Kubernetes can check, and is set after the last RUN."""
    user, group = only("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    names = [instruction.name for instruction in last_stage()]
    assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")


def test_signals_reach_the_gateway() -> None:
    """The command has the exec form, so SIGTERM goes to the gateway and not to a shell."""
    command = json.loads(only("ENTRYPOINT")) + json.loads(only("CMD"))
    assert command == ["blnk-gateway", "serve"]


def test_the_image_reports_its_readiness() -> None:
    """The health check is the command that reads the same configuration as `serve`."""
    options, command = only("HEALTHCHECK").split("CMD")
    assert json.loads(command) == ["blnk-gateway", "health", "ready"]
    assert {option.partition("=")[0] for option in shlex.split(options)} >= {"--interval", "--timeout"}


def test_the_image_carries_what_serve_reads() -> None:
    """The working directory contains the file that ships."""
    copied = [instruction.value.split() for instruction in last_stage() if instruction.name == "COPY"]
    assert ["gateway.yaml", f"{only('WORKDIR')}/gateway.yaml"] in copied


def in_checkout(pattern: str) -> list[str]:
    """Return the files of the checkout that a pattern names."""
    return [file.relative_to(ROOT).as_posix() for file in ROOT.glob(pattern)]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """Every source of a COPY exists in the checkout and passes the ignore file."""
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    kept = {file for pattern in kept for file in ([pattern] if "*" not in pattern else in_checkout(pattern))}
    sources = {
        source
        for instruction in instructions()
        if instruction.name == "COPY" and not instruction.value.startswith("--from")
        for source in instruction.value.split()[:-1]
    }
    assert sources == kept
    assert [source for source in sorted(sources) if not (ROOT / source).exists()] == []


def test_no_secret_is_baked_in() -> None:
    """No ENV, ARG or copied file contains a secret."""
    baked = [instruction.value for instruction in instructions() if instruction.name in ("ENV", "ARG")]
    assert [value for value in baked if re.search("KEY|PASSWORD|SECRET", value)] == []


# The services.


def test_only_the_gateway_is_published() -> None:
    """Anyone who can connect to Core, its database or Redis bypasses the gateway."""
    assert [name for name, service in services().items() if "ports" in service] == ["gateway"]
    assert [name for name, service in services().items() if "network_mode" in service] == []
    assert services()["gateway"]["ports"] == ["127.0.0.1:5001:5001"]


def test_clients_share_a_network_with_the_gateway_alone() -> None:
    """A container of a client cannot reach Core."""
    networks = {name: set(service["networks"]) for name, service in services().items()}
    assert networks.pop("gateway") == {"clients", "ledger"} == set(compose()["networks"])
    assert set(map(frozenset, networks.values())) == {frozenset({"ledger"})}


@pytest.mark.parametrize("name", CORE)
def test_core_is_secure_and_has_the_gateways_master_key(name: str) -> None:
    """Core demands keys, and its master key is the one that the gateway sends."""
    environment = services()[name]["environment"]
    assert environment["BLNK_SERVER_SECURE"] == "true"
    master_key = gateway_config().upstream.master_key.reveal()
    assert filled_in(environment["BLNK_SERVER_SECRET_KEY"]) == master_key == SECRETS["BLNK_MASTER_KEY"]


def test_the_gateway_is_configured_for_these_services() -> None:
    """The gateway's settings load, and name the services and ports of this file."""
    config = gateway_config()
    [published] = services()["gateway"]["ports"]
    assert list(map(str, config.listen)) == [f"0.0.0.0:{published.rpartition(':')[2]}"]
    assert config.admin.is_loopback
    assert config.upstream.host == "core"
    assert str(config.upstream.port) == services()["core"]["environment"]["BLNK_SERVER_PORT"]
    assert config.keys.store.startswith("redis://redis:6379/")


def test_redis_loses_no_key() -> None:
    """Every write is on disk, on a volume, before Redis responds, and nothing is evicted."""
    redis = services()["redis"]
    options = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert options == {"--appendonly": "yes", "--appendfsync": "always", "--maxmemory-policy": "noeviction"}
    [volume] = redis["volumes"]
    assert volume.partition(":")[0] in compose()["volumes"]


def test_core_and_the_gateway_keep_apart_in_redis() -> None:
    """The gateway uses another database of Redis than Core."""
    store = gateway_config().keys.store
    core = services()["core"]["environment"]["BLNK_REDIS_DNS"]
    assert (store, core) == ("redis://redis:6379/1", "redis:6379")


def test_every_service_that_stays_up_is_checked() -> None:
    """The image has the gateway's health check, the other services have one here; migrate ends."""
    unchecked = [name for name, service in services().items() if "healthcheck" not in service]
    assert unchecked == ["gateway", "migrate"]


def test_dependencies_are_services_that_can_be_waited_for() -> None:
    """`service_healthy` names a service with a health check, and Core waits for its migrations."""
    waited = {
        (other, how["condition"])
        for service in services().values()
        for other, how in service.get("depends_on", {}).items()
    }
    assert {name for name, how in waited if how == "service_healthy"} <= {
        name for name, service in services().items() if "healthcheck" in service
    }
    assert services()["core"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_the_gateway_has_time_to_drain() -> None:
    """SIGKILL comes only after drain.delay and drain.timeout."""
    drain = gateway_config().drain
    grace = float(services()["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace > drain.delay + drain.timeout


def test_core_takes_the_bodies_that_the_gateway_sends() -> None:
    """Core's limit in MiB is the gateway's upstream.max_body, and a stamped batch of any size fits."""
    core = int(services()["core"]["environment"]["BLNK_SERVER_MAX_REQUEST_BODY_SIZE_MB"])
    config = gateway_config()
    assert config.upstream.max_body == core * 1024**2
    assert config.upstream.max_body >= config.limits.body + 1024**2


def test_the_gateway_has_no_privileges() -> None:
    """The gateway cannot write to its file system, has no capability and can get none."""
    gateway = services()["gateway"]
    hardening = {name: gateway[name] for name in ("read_only", "cap_drop", "security_opt")}
    assert hardening == {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def test_no_secret_is_in_the_file() -> None:
    """Each secret comes from the environment, and compose stops if one is missing."""
    text = (DEPLOY / "compose.yaml").read_text()
    named = re.findall(r"^\s*(\w*(?:KEY|PASSWORD)): (.*)$", text, re.MULTILINE)
    assert len(named) == 3
    assert [value for _, value in named if not re.match(r"\$\{\w+:\?[^}]+\}", value)] == []
    ignored = (DEPLOY / ".gitignore").read_text().splitlines()
    assert {".env", "admin_token", "compose.override.yaml"} <= set(ignored)


def test_each_override_that_the_guide_shows_gives_a_configuration_that_loads(tmp_path: Path) -> None:
    """The settings of compose.yaml with those of one override are those that the override names."""
    token = tmp_path / "admin_token"
    token.write_text("a-token-of-the-admin-listener")
    base = services()["gateway"]
    loaded = []
    for override in overrides():
        [(service, changed)] = override.items()
        assert (service, changed.keys() <= {*base, "command", "volumes"}) == ("gateway", True)
        environment = {name: filled_in(value) for name, value in base["environment"].items()}
        environment |= changed.get("environment", {})
        if "BLNK_GATEWAY_ADMIN_TOKEN_FILE" in environment:
            [volume] = changed["volumes"]
            assert volume == f"./admin_token:{environment['BLNK_GATEWAY_ADMIN_TOKEN_FILE']}:ro"
            environment["BLNK_GATEWAY_ADMIN_TOKEN_FILE"] = str(token)
        config = load_config(ROOT / "gateway.yaml", environment, secrets=True)
        loaded.append((config.keys.authority, str(config.admin), changed.get("command")))
    assert loaded == [
        ("core", "127.0.0.1:5002", None),
        ("gateway", "127.0.0.1:5002", ["serve", "--observe"]),
        ("gateway", "0.0.0.0:5002", None),
    ]


def test_all_overrides_that_the_guide_shows_fit_into_one_file() -> None:
    """Below `gateway:` and below `environment:` none of them repeats a line of another one."""
    changes = [override["gateway"] for override in overrides()]
    variables = [name for changed in changes for name in changed.get("environment", {})]
    others = [name for changed in changes for name in changed if name != "environment"]
    assert sorted(set(variables)) == sorted(variables)
    assert sorted(others) == ["command", "ports", "volumes"]


# More processes.


def more_processes() -> Service:
    """Return the service of the file for more processes."""
    loaded = yaml.safe_load((DEPLOY / "compose.processes.yaml").read_text())
    assert loaded["services"].pop("gateway") == {"command": ["serve", "--reuse-port"]}
    [(_, service)] = loaded["services"].items()
    return dict(service)


def test_more_processes_are_like_the_gateway_but_for_their_ports() -> None:
    """They have the image, settings and hardening of the gateway, and listeners that do not clash."""
    gateway, more = services()["gateway"], more_processes()
    same = ("image", "restart", "stop_grace_period", "read_only", "cap_drop", "security_opt")
    assert {name: more[name] for name in same} == {name: gateway[name] for name in same}
    own = {"BLNK_GATEWAY_ADMIN": "127.0.0.1:0"}
    assert (
        more["environment"]
        == {name: value for name, value in gateway["environment"].items() if name != "BLNK_GATEWAY_HEALTH"}
        | own
    )


def test_more_processes_share_the_port_in_the_network_of_the_gateway() -> None:
    """The gateway publishes the port, and the configuration allows to share it."""
    more = more_processes()
    assert (more["command"], more["network_mode"]) == (["serve", "--reuse-port"], "service:gateway")
    assert more.keys().isdisjoint(("ports", "networks"))
    environ = {name: filled_in(value) for name, value in more["environment"].items()}
    assert why_not_shared(load_config(ROOT / "gateway.yaml", environ, secrets=True), "linux") == ""


# The unit for systemd.


def test_the_unit_waits_for_the_gateway_and_reloads_it_once() -> None:
    """With `notify-reload` systemd itself sends SIGHUP, and ExecReload would send it again."""
    assert (settings()["Type"], settings()["ExecReload"]) == (["notify"], ["/bin/kill -HUP $MAINPID"])


@pytest.mark.systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """systemd-analyze finds nothing to say about the unit, with a program that exists in place of ours."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze is installed")
    [command] = settings()["ExecStart"]
    text = UNIT.read_text().replace(command.split()[0], "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    done = subprocess.run(
        [program, "verify", tmp_path / UNIT.name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_process_of_the_unit_shares_the_port_and_has_an_admin_address_of_its_own() -> None:
    """The addresses of the instances 1 to 9 clash neither with each other nor with the port of clients."""
    [command] = settings()["ExecStart"]
    assert command.split()[1:] == ["serve", "--reuse-port", "--config", "/etc/blnk-gateway/gateway.yaml"]
    configs = [
        load_config(ROOT / "gateway.yaml", of_instance(number, "/credentials"), secrets=False)
        for number in range(1, 10)
    ]
    assert len({config.admin for config in configs}) == 9
    assert all(config.admin.is_loopback for config in configs)
    assert {config.admin.port for config in configs}.isdisjoint(
        host_and_port(one).port for one in configs[0].listen
    )


def test_processes_of_the_unit_can_share_the_port() -> None:
    """Linux shares a port only among processes of one user, which a name for all instances gives."""
    assert (settings()["DynamicUser"], settings()["User"]) == (["yes"], ["blnk-gateway"])


def test_the_unit_reads_the_master_key_from_a_credential(tmp_path: Path) -> None:
    """The file that ships needs no change for it; the setting for an older systemd names the same file."""
    [credential] = settings()["LoadCredential"]
    name, _, source = credential.partition(":")
    (tmp_path / name).write_text("of-core\n")
    config = load_config(ROOT / "gateway.yaml", of_instance(1, tmp_path), secrets=True)
    assert config.upstream.master_key.reveal() == "of-core"
    [comment] = re.findall(r"upstream.master_key_file: (\S+)", UNIT.read_text())
    assert comment == f"${{CREDENTIALS_DIRECTORY}}/{name}"
    assert source in (DEPLOY / "README.md").read_text()


def test_the_unit_gives_the_gateway_time_to_drain_and_enough_files() -> None:
    config = load_config(ROOT / "gateway.yaml", SECRETS, secrets=True)
    [stop], [files] = settings()["TimeoutStopSec"], settings()["LimitNOFILE"]
    assert float(stop) > config.drain.delay + config.drain.timeout
    assert fit(config, int(files)).shortfalls == ()


# All files.


def test_every_file_is_named_by_a_test() -> None:
    """A test parses, checks or runs each file; `deploy/test_chart.py` has those of the chart."""
    chart = DEPLOY / "helm" / "blnk-gateway"
    tracked = subprocess.run(
        ["git", "ls-files", "."], cwd=DEPLOY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    files = [DEPLOY / name for name in tracked if chart not in (DEPLOY / name).parents]
    code = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")))
    named = set(re.findall(r"\"(?:[\w.-]+/)*([\w@.-]+)\"", code))
    assert len(files) >= 20
    assert [path.name for path in files if path.name not in named] == []


# The page.


def test_the_page_has_its_sections_and_is_short() -> None:
    """The sections are in the order in which a team needs them."""
    text = (DEPLOY / "README.md").read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == [
        "Before you start",
        "Introducing the gateway",
        "Running",
        "Sizing",
        "Upgrading",
        "Removing the gateway",
    ]


@pytest.mark.parametrize("way", ["**With compose**", "**On Kubernetes**", "### systemd\n"])
def test_each_way_takes_three_commands_to_a_gateway_in_front_of_core(way: str) -> None:
    _, found, rest = (DEPLOY / "README.md").read_text().partition(f"\n{way}")
    block = rest.partition("```sh\n")[2].partition("```")[0]
    commands = re.sub(r" \\\n\s*", " ", block).splitlines()
    assert (found != "", len(commands)) == (True, 3)
