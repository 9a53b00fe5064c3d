"""The configuration: gateway.yaml and the environment become one frozen Config, or a list of problems."""

from gateway.config.addresses import Address, ListenAddress
from gateway.config.errors import ConfigError, UnreadableConfigError
from gateway.config.load import load_config, parse_config
from gateway.config.model import Config, settings
from gateway.config.secret_values import Secret, read_optional_secret, read_secret
from gateway.config.sections.keys import KeysConfig
from gateway.config.sections.operation import AuditConfig, DecideConfig, DrainConfig, LogConfig, TracingConfig
from gateway.config.sections.requests import LimitsConfig, TimeoutsConfig
from gateway.config.sections.tls import TlsConfig
from gateway.config.sections.upstream import UpstreamConfig
from gateway.config.setting import Setting
from gateway.config.unix_addresses import UnixAddress
from gateway.config.values import BadValueError

__all__ = [
    "Address",
    "AuditConfig",
    "BadValueError",
    "Config",
    "ConfigError",
    "DecideConfig",
    "DrainConfig",
    "KeysConfig",
    "LimitsConfig",
    "ListenAddress",
    "LogConfig",
    "Secret",
    "Setting",
    "TimeoutsConfig",
    "TlsConfig",
    "TracingConfig",
    "UnixAddress",
    "UnreadableConfigError",
    "UpstreamConfig",
    "load_config",
    "parse_config",
    "read_optional_secret",
    "read_secret",
    "settings",
]
