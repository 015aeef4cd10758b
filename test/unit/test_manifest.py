"""Models by their SHA-256: what a manifest does not state is not run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from camtrack_core.errors import ModelError
from camtrack_core.runtime.manifest import MANIFEST, check_model
from camtrack_core.runtime.session import open_session

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["gcnet_tracker", "time3d_tracker"])
def test_the_manifests_state_all_models_that_come_along(package: str) -> None:
    folder = ROOT / package / "weights"
    models = {path.name for path in folder.iterdir() if path.suffix in (".onnx", ".pt")}
    lines = (folder / MANIFEST).read_text().splitlines()
    assert {line.split()[1] for line in lines} == models and len(lines) == len(models)
    for name in models:
        check_model(folder / name)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"graph")
    (tmp_path / MANIFEST).write_text(f"{hashlib.sha256(b'graph').hexdigest()}  a.onnx\n")
    return path


def test_a_model_that_was_replaced_is_refused(model: Path) -> None:
    check_model(model)
    model.write_bytes(b"grapH")
    for use in (check_model, open_session):
        with pytest.raises(
            ModelError, match=r"a\.onnx: expected the SHA-256 that .*SHA256SUMS states, [0-9a-f]{16}, got"
        ):
            use(model)


def test_a_model_that_was_added_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="states, none, got"):
        check_model(model.rename(model.with_name("b.onnx")))


@pytest.mark.parametrize("text", ["x", "a b c\n", "\xff"])
def test_a_broken_manifest_vouches_for_nothing(model: Path, text: str) -> None:
    (model.parent / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match="as sha256sum writes it"):
        check_model(model)


def test_without_a_manifest_models_are_ones_own(model: Path) -> None:
    (model.parent / MANIFEST).unlink()
    check_model(model)
