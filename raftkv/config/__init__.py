"""The configuration of a node: every setting in one table, and the way from a YAML file to frozen dataclasses.

The table :data:`SETTINGS` is the only list of what can be set. The parser walks it, the reference page of the manual
is made from it, and defaults are those of the dataclasses' fields, so that nothing is said twice. A mistake is one
sentence that names file, line, key, what was found and what was expected. Nothing here opens a socket or makes a
folder: whether a port is free or a directory can be written is found out by those who use them.

``model`` is what a node is told; ``sections`` is the table, of entries as in ``setting``, each of one of the ``kinds``;
``reading`` goes from a file to the model, by way of ``document``, and has ``checks`` see that settings go together.
"""

from raftkv.config.address import Address
from raftkv.config.model import GIB, KIB, MIB, Limits, LogLevel, NodeConfig, cluster_id_of_peers
from raftkv.config.reading import load_config, parse_config
from raftkv.config.sections import SETTINGS
from raftkv.config.setting import Setting

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "SETTINGS",
    "Address",
    "Limits",
    "LogLevel",
    "NodeConfig",
    "Setting",
    "cluster_id_of_peers",
    "load_config",
    "parse_config",
]
