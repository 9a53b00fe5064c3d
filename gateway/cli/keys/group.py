"""The `keys` group."""

from __future__ import annotations

import click

from gateway.cli.console import EXIT_CODES
from gateway.cli.groups import CommandGroup
from gateway.cli.keys.changes import create, disable, enable, rotate
from gateway.cli.keys.import_keys import import_keys
from gateway.cli.keys.leave import leave
from gateway.cli.keys.lists import export, list_keys, show, verify
from gateway.cli.keys.prune import prune
from gateway.cli.keys.revoke import revoke
from gateway.cli.keys.update import update


@click.group(cls=CommandGroup, epilog=EXIT_CODES)
def keys() -> None:
    """Create, show, change, import and prune the keys in the key store.

    These commands need the key store, but no running gateway. Without a gateway.yaml, the variable
    BLNK_GATEWAY_KEYS__STORE names the store. Where keys.authority is core, Core creates, replaces and revokes
    keys, and these commands need its master key.

    \b
    Examples:
      blnk-gateway keys create --owner acme --scopes ledgers:read --expires 90d
      blnk-gateway keys list --owner acme
      blnk-gateway keys revoke api_key_... --reason "left the company"
    """


for command in (
    create, update, rotate, revoke, disable, enable, list_keys, show, verify, export, import_keys, prune,
    leave,
):  # fmt: skip
    keys.add_command(command)
