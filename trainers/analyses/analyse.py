"""What a recipe has measured on its trained model: each analysis once, after the last evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from configs.analysis import Probed
from configs.files import write_json
from configs.schema import EmotionRecipe, NliRecipe
from trainers.data import RunData
from trainers.models.heads import layer_weights

Watch = Callable[[], None]
Analysis = Callable[[RunData, Any, Watch], dict[str, Any]]


def analyse(data: RunData, weights: Mapping[str, Tensor], folder: Path, watch: Watch) -> None:
    """Write eval/NAME.json for each analysis of the recipe. A collective call: ranks share the work.

    ``weights`` are the best ones by parameter name, read from the checkpoint as they are asked for: a
    run without analyses reads none. ``watch`` is called on all ranks every now and then, and may end
    it by raising.
    """
    learnt = layer_weights(weights)
    if learnt is not None:
        _write(data, folder, "layer_weights", {"weights": learnt})
    if at_start := _probes(data.recipe, "start"):
        _run(data, folder, at_start, data.task.build_model(), watch)
    if of_trained := _of_trained(data.recipe):
        _run(data, folder, of_trained, _loaded(data.task.build_model(), weights), watch)


def _run(
    data: RunData, folder: Path, analyses: Mapping[str, Analysis], model: nn.Module, watch: Watch
) -> None:
    model.to(data.world.device).eval()
    for name, analysis in analyses.items():
        _write(data, folder, name, analysis(data, model, watch))


def _of_trained(recipe: Any) -> dict[str, Analysis]:
    """The analyses of the trained model, by name."""
    analyses = _probes(recipe, "end")
    if isinstance(recipe, NliRecipe) and recipe.analysis.pruning.shares:
        from trainers.analyses.pruning import pruning_curve

        analyses["pruning"] = pruning_curve
    if isinstance(recipe, EmotionRecipe) and recipe.analysis.noise:
        from trainers.analyses.noise import noised_scores

        analyses["noise"] = noised_scores
    return analyses


def _probes(recipe: Any, when: Probed) -> dict[str, Analysis]:
    if isinstance(recipe, NliRecipe | EmotionRecipe) and recipe.analysis.probes == when:
        from trainers.analyses.probes import layer_probes

        return {"probes": layer_probes}
    return {}


def _loaded(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    own = {name: weights[name] for name, _ in model.named_parameters()}
    model.load_state_dict(own, strict=False)  # buffers are the architecture's
    return model


def _write(data: RunData, folder: Path, name: str, found: dict[str, Any]) -> None:
    if data.world.main:
        write_json(folder / "eval" / f"{name}.json", found)
        print(f"  {name}: eval/{name}.json", flush=True)
