"""Models by their SHA-256: a folder of models may hold a manifest, and then no other model is run from it.

The manifest is a file SHA256SUMS as `sha256sum *.onnx *.pt > SHA256SUMS` writes it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from camtrack_core.errors import ModelError

MANIFEST = "SHA256SUMS"


def check_model(path: Path) -> None:
    """Raises ModelError for a model that the manifest beside it does not list, or lists with another content.

    Where there is no manifest, nobody vouches for the models there: they are taken as they are.
    """
    manifest = path.parent / MANIFEST
    if not manifest.is_file():
        return
    try:
        sums = {name.lstrip("*"): digest for digest, name in map(str.split, manifest.read_text().splitlines())}
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: expected a model and a manifest {manifest} as sha256sum writes it: {error}"
        ) from error
    if sums.get(path.name) != found:
        listed = sums.get(path.name, "none")
        raise ModelError(
            f"{path}: expected the SHA-256 that {manifest} states, {listed[:16]}, got {found[:16]}; a model that is "
            f"replaced on purpose goes there, too: sha256sum *.onnx *.pt > {MANIFEST}"
        )
