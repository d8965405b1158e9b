"""What twistd runs for ``twistd raftkv --config node.yaml``: the options, and the service that they describe.

Imports little before the options are parsed: what twistd is to run under (the reactor, the log) is chosen here, and
whatever meets Twisted's default reactor by an import would have chosen it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from twisted.application.service import IService
from twisted.python import usage

from raftkv.config import NodeConfig, load_config
from raftkv.daemon.collector import freeze_long_lived
from raftkv.daemon.logs import OBSERVER_NAME, LogChoice, choose
from raftkv.daemon.process import (
    install_reactor,
    raise_descriptor_limit,
    tune_interpreter,
    use_monotonic_clock,
)
from raftkv.errors import ConfigurationError, StorageError

_TWISTD_PIDFILE = "twistd.pid"


class Options(usage.Options):
    """The options of ``twistd raftkv``.

    :ivar config: the configuration of the node, once the options have been parsed; ``data_dir`` is absolute.
    :ivar pidfile: where the process id goes, or ``None``.
    """

    synopsis = "[options]"
    longdesc = "Runs one node of a replicated, linearizable key-value store."
    optParameters = (("config", "c", None, "The YAML file that configures the node (required)."),)

    config: NodeConfig
    pidfile: str | None

    def postOptions(self) -> None:
        """Read the configuration, and give twistd the defaults that suit a node.

        :raises SystemExit: with one line that says what is wrong.
        """
        install_reactor()
        if self["config"] is None:
            raise SystemExit("raftkv: --config is missing; expected: twistd -n raftkv --config node.yaml")
        try:
            config = load_config(self["config"])
        except ConfigurationError as error:
            raise SystemExit(f"raftkv: {error}") from None
        # twistd may change its working directory (--rundir) before anything is started.
        archive_dir = config.archive_dir and os.path.abspath(config.archive_dir)
        self.config = replace(config, data_dir=os.path.abspath(config.data_dir), archive_dir=archive_dir)
        if self.parent is None:
            raise SystemExit("raftkv: these options belong to twistd; expected: twistd -n raftkv --config node.yaml")
        is_daemon = not (self.parent["nodaemon"] or self.parent["debug"])
        self.pidfile = self._choose_pidfile(self.parent, is_daemon)
        self._choose_log(self.parent, is_daemon)

    def _choose_pidfile(self, twistd: usage.Options, is_daemon: bool) -> str | None:
        wanted, twistd["pidfile"] = twistd["pidfile"], ""  # ours replaces twistd's: see daemon.pidfile
        if wanted != _TWISTD_PIDFILE or _is_on_command_line("--pidfile"):
            return os.path.abspath(wanted) if wanted else None
        # In the foreground the shell knows the process, and several nodes may share the working directory.
        return os.path.join(self.config.data_dir, "raftkv.pid") if is_daemon else None

    def _choose_log(self, twistd: usage.Options, is_daemon: bool) -> None:
        if twistd["logger"] is not None:
            return
        path = twistd["logfile"]
        if is_daemon and path == "-":
            raise SystemExit("raftkv: --logfile: found '-', expected a file, as a daemon has no standard output")
        if not path and is_daemon:
            path = os.path.join(self.config.data_dir, "raftkv.log")
        syslog_prefix = twistd["prefix"] if twistd["syslog"] else None
        path = None if path in (None, "", "-") else os.path.abspath(path)
        choose(LogChoice(level=self.config.log_level, path=path, syslog_prefix=syslog_prefix))
        twistd["logger"] = OBSERVER_NAME


def makeService(options: Options) -> IService:
    """Return the node that the options describe, ready to be started; called by twistd before it forks.

    :raises SystemExit: the start is refused, with one line that says why.
    """
    from twisted.internet import reactor

    from raftkv.composition import compose

    use_monotonic_clock(reactor)
    tune_interpreter()
    raise_descriptor_limit(2 * options.config.limits.max_connections + 512)
    try:
        service = compose(options.config, reactor, pidfile=options.pidfile)
    except (ConfigurationError, StorageError) as error:
        raise SystemExit(f"raftkv: {error}") from None
    freeze_long_lived()
    return service


def _is_on_command_line(option: str) -> bool:
    """Tell whether twistd was given an option, which its own parser does not remember; it allows abbreviations."""
    names = (argument.partition("=")[0] for argument in sys.argv[1:])
    return any(len(name) > len("--p") and option.startswith(name) for name in names if name.startswith("--"))
