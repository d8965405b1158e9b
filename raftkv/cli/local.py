"""``raftkv cluster``: a cluster on this machine, in the foreground, for trying things out.

It starts one twistd for each configuration, tells who leads, and stops all of them again. It watches the nodes
through their HTTP interface like any other user would, and keeps no state of its own: the data directories do.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from types import FrameType

import click

from raftkv.cli.localnode import LocalNode
from raftkv.cli.watching import LeaderWatch
from raftkv.config import load_config
from raftkv.errors import ConfigurationError

_DEFAULT_CONFIGS = ("conf/node1.yaml", "conf/node2.yaml", "conf/node3.yaml")
_POLL_SECONDS = 0.25
_STOP_LIMIT_SECONDS = 75.0


@click.command(short_help="Start several nodes in the foreground; Ctrl-C stops them all.")
@click.argument("configs", nargs=-1, type=click.Path(dir_okay=False))
def cluster(configs: tuple[str, ...]) -> None:
    """Start a node for each of CONFIGS in the foreground; Ctrl-C stops them all.

    Without CONFIGS these are conf/node1.yaml, conf/node2.yaml and conf/node3.yaml.
    """
    try:
        nodes = [LocalNode(path, load_config(path)) for path in configs or _DEFAULT_CONFIGS]
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(_LocalCluster(nodes).run())


class _LocalCluster:
    """The nodes of one run of ``raftkv cluster``."""

    def __init__(self, nodes: Sequence[LocalNode]) -> None:
        self._nodes = nodes
        self._watch = LeaderWatch([node.config for node in nodes])
        self._signals = 0
        self._status = 0

    def run(self) -> int:
        """Start, watch until a signal comes or no node is left, stop; return the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            for node in self._nodes:
                node.start()
            if self._wait_for_leader():
                self._introduce()
                self._watch_over()
        finally:
            self._stop()
        return self._status

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _wait_for_leader(self) -> bool:
        """Return whether all nodes came up; ``False`` after saying why not."""
        click.echo(f"starting {', '.join(node.config.node_id for node in self._nodes)} …")
        while not self._signals:
            for node in self._nodes:
                if node.ended():
                    click.echo(f"{node.config.node_id} did not start: {node.reason()}", err=True)
                    self._status = 1
                    return False
            if self._watch.look() is not None:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _introduce(self) -> None:
        """Say what runs, who leads, and what could be tried."""
        for node in self._nodes:
            click.echo(f"  {node.describe()}")
        click.echo(self._watch.summary())
        one, two, three = (self._nodes[i % len(self._nodes)].url for i in range(3))
        click.echo("try, in another terminal:")
        click.echo(f"""  curl -X POST {one}/set -d '{{"key": "greeting", "value": "hello"}}'""")
        click.echo(f"  curl '{two}/get?key=greeting'")
        click.echo(f"  curl -X DELETE '{three}/delete?key=greeting'")
        click.echo(f"  curl {one}/v1/cluster")
        click.echo("Ctrl-C stops all of them.")

    def _watch_over(self) -> None:
        """Report changes of leader and nodes that end, until a signal comes or none is left."""
        gone: set[LocalNode] = set()
        while not self._signals and len(gone) < len(self._nodes):
            for node in self._nodes:
                if node not in gone and node.ended():
                    gone.add(node)
                    self._status = 1
                    _say(f"{node.config.node_id} {node.reason()}; it is not restarted. By hand: {node.command_line()}")
            news = self._watch.look()
            if news is not None:
                _say(news)
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        running = [node for node in self._nodes if not node.ended()]
        if running:
            click.echo(f"\nstopping {', '.join(node.config.node_id for node in running)} …")
        for node in running:
            node.terminate()
        seen = self._signals
        give_up = time.monotonic() + _STOP_LIMIT_SECONDS
        while any(not node.ended() for node in running):
            if self._signals > seen or time.monotonic() > give_up:
                for node in running:
                    node.kill()
            time.sleep(0.05)
        for node in running:
            if node.process_status() != 0:
                click.echo(f"{node.config.node_id} {node.reason()}", err=True)
                self._status = 1
        if running and self._status == 0:
            click.echo("all nodes have stopped cleanly; the next start finds their data again")


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {text}")
