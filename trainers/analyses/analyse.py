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

    ``weights`` are the best ones by parameter name, whole, on the CPU. ``watch`` is called on all
    ranks every now and then, and may end it by raising.
    """
    learnt = layer_weights(weights)
    if learnt is not None:
        _write(data, folder, "layer_weights", {"weights": learnt})
    probed, analyses = _wanted(data.recipe)
    if probed == "off" and not analyses:
        return
    fresh = data.task.build_model()
    if probed == "start":
        from trainers.analyses.probes import layer_probes

        _write(data, folder, "probes", layer_probes(data, _ready(fresh, data), watch))
    trained = _ready(_loaded(fresh, weights), data)
    if probed == "end":
        from trainers.analyses.probes import layer_probes

        _write(data, folder, "probes", layer_probes(data, trained, watch))
    for name, analysis in analyses.items():
        _write(data, folder, name, analysis(data, trained, watch))


def _wanted(recipe: Any) -> tuple[Probed, dict[str, Analysis]]:
    """Whether and when layers are probed, and the analyses of the trained model by name."""
    analyses: dict[str, Analysis] = {}
    if isinstance(recipe, NliRecipe) and recipe.analysis.pruning.shares:
        from trainers.analyses.pruning import pruning_curve

        analyses["pruning"] = pruning_curve
    if isinstance(recipe, EmotionRecipe) and recipe.analysis.noise:
        from trainers.analyses.noise import noised_scores

        analyses["noise"] = noised_scores
    if isinstance(recipe, NliRecipe | EmotionRecipe):
        return recipe.analysis.probes, analyses
    return "off", analyses


def _ready(model: nn.Module, data: RunData) -> nn.Module:
    return model.to(data.world.device).eval()


def _loaded(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    own = {name: weights[name] for name, _ in model.named_parameters()}
    model.load_state_dict(own, strict=False)  # buffers are the architecture's
    return model


def _write(data: RunData, folder: Path, name: str, found: dict[str, Any]) -> None:
    if data.world.main:
        write_json(folder / "eval" / f"{name}.json", found)
        print(f"  {name}: eval/{name}.json", flush=True)
