"""Files of node parameters, as config/ holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from camtrack_core.errors import ConfigurationError


def read_parameters(path: Path) -> dict[str, Any]:
    """The parameters that a file gives to all nodes, nested. Raises ConfigurationError."""
    try:
        return dict(yaml.safe_load(path.read_text())["/**"]["ros__parameters"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path}: expected parameters as config/fusion.yaml has them, got {error!r}"
        ) from error
