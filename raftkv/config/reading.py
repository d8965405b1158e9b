"""From a YAML file to a :class:`~raftkv.config.NodeConfig`, or to one sentence about what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raftkv.config.checks import check
from raftkv.config.document import Document
from raftkv.config.model import Limits, NodeConfig
from raftkv.config.sections import LIMITS, SETTINGS
from raftkv.errors import ConfigurationError


def load_config(path: str) -> NodeConfig:
    """Read the configuration of a node from a YAML file.

    :raises raftkv.errors.ConfigurationError: one line that says where it is wrong, what was found and what was
        expected.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: the configuration cannot be read: {error.strerror}") from None
    return parse_config(text, path)


def parse_config(text: bytes | str, name: str) -> NodeConfig:
    """Read the configuration of a node from the text of a YAML file.

    :param name: what to call the file in messages.
    :raises raftkv.errors.ConfigurationError: as in :func:`load_config`.
    """
    document = Document.compose(text, name)
    values = document.values()
    limits = {s.field: values[s.key] for s in LIMITS if s.key in values}
    settings: dict[str, Any] = {s.field: values[s.key] for s in SETTINGS if s.key in values and s not in LIMITS}
    config = NodeConfig(**settings, limits=Limits(**limits))
    check(config, document)
    return config
