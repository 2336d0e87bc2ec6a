"""Finding pre-trained models: the hub's cache, and which weights are chosen."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from configs.errors import InputError
from tests.trainers.tiny_models import bert_folder
from trainers.models.source import choose_weights, download_model, resolve_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one model in it, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "models--somebody--bert"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    return bert_folder(model / "snapshots" / COMMIT)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_cached_models_need_no_network(cache: Path, revision: str | None) -> None:
    assert resolve_model("somebody/bert", revision) == cache


def test_a_cached_model_without_weights_does_not_count(cache: Path) -> None:
    (cache / "model.safetensors").unlink()
    with pytest.raises(InputError, match="`sokhan download model somebody/bert`"):
        resolve_model("somebody/bert")


def test_another_revision_does_not_count(cache: Path) -> None:
    with pytest.raises(InputError, match="`sokhan download model somebody/bert --revision other`"):
        resolve_model("somebody/bert", "other")


def test_a_model_that_cannot_be_had_says_what_can_be_done(cache: Path) -> None:
    with pytest.raises(InputError, match=r"docs/offline\.md.*--model\.pretrained null.*--out no/model`$"):
        resolve_model("no/model")
    with pytest.raises(InputError, match=r"same command, and copy .* here \(docs/offline\.md\)$"):
        download_model("no/model")


@pytest.mark.parametrize("name", ["", "a/b/c", "./here", "~/there", "/nowhere"])
def test_paths_are_not_asked_of_the_hub(cache: Path, name: str) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        resolve_model(name)


def test_names_that_no_hub_has(cache: Path) -> None:
    with pytest.raises(InputError, match="neither a folder nor a hub name"):
        download_model("two words")


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin", "tf_model.h5"], ["pytorch_model.bin"]),
        (
            ["pytorch_model.bin", "model.safetensors.index.json"],
            ["model.safetensors.index.json", "model-*.safetensors"],
        ),
        (["tf_model.h5", "flax_model.msgpack"], []),
    ],
)
def test_safetensors_are_preferred(files: list[str], chosen: list[str]) -> None:
    assert choose_weights(files) == chosen
