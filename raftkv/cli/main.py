"""The group of subcommands, and what they share."""

from __future__ import annotations

import click

from raftkv import __version__
from raftkv.cli.bench import bench
from raftkv.cli.keys import delete, get, set_
from raftkv.cli.local import cluster
from raftkv.cli.members import member
from raftkv.cli.recover import recover
from raftkv.cli.snapshot import snapshot
from raftkv.cli.status import status
from raftkv.cli.wal import wal


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="raftkv")
def main() -> None:
    """A replicated, linearizable key-value store.

    One node is started by twistd: twistd -n raftkv --config node.yaml
    """


for _command in (cluster, member, recover, snapshot, wal, status, get, set_, delete, bench):
    main.add_command(_command)
