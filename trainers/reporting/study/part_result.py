"""What a part of a study found: its methods, and the tests of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from trainers.reporting.page.blocks import duration
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.settings import training_of
from trainers.reporting.study.file import Members, StudyPart
from trainers.reporting.study.grouping import methods_of
from trainers.reporting.study.methods import Method
from trainers.reporting.study.significance import Pair, pairs_of, tested


@dataclass(frozen=True)
class PartResult:
    """What a part found."""

    number: int
    part: StudyPart
    methods: tuple[Method, ...]
    pairs: tuple[Pair, ...]
    compared: str
    """Which pairs those are."""
    language_models: tuple[Run, ...]

    @property
    def title(self) -> str:
        """Numbered, so that no two sections are called the same."""
        return f"{self.number}. {self.part.title}"

    @property
    def score(self) -> str:
        """What methods are ranked by: UAR for speech, whose classes are uneven, else accuracy."""
        speech = any(method.first.task == "emotion" for method in self.methods)
        return "uar" if speech else "accuracy"

    @property
    def score_name(self) -> str:
        """In words."""
        return "UAR" if self.score == "uar" else "accuracy"

    @property
    def groups(self) -> list[list[Method]]:
        """Methods of one corpus and protocol each: only within these does a ranking mean something."""
        groups: dict[tuple[str, str], list[Method]] = {}
        for method in self.methods:
            groups.setdefault((str(method.first.data["corpus"]), method.protocol), []).append(method)
        return list(groups.values())

    def best(self, methods: Sequence[Method]) -> Method:
        """The one with the highest mean on the test part; the first of equal ones."""
        return max(methods, key=lambda method: mean(method.values(self.score)))


def part_result(position: int, part: StudyPart, members: Members) -> PartResult:
    """Group a part's runs, and test its pairs."""
    methods = methods_of(part, members.found)
    pairs, compared = pairs_of(methods, part.curve)
    models = {
        m.run: members.found[m.run]
        for m in part.members
        if m.run in members.found and members.found[m.run].tokens
    }
    return PartResult(position, part, tuple(methods), tuple(pairs), compared, tuple(models.values()))


def time_text(result: PartResult) -> str:
    """Time of all its trainings."""
    measured = [runs for method in result.methods for runs in method.measured.values()]
    runs = {run.path: run for runs in measured for run in runs}
    runs |= {run.path: run for run in result.language_models}
    return duration(sum(float(run.summary["seconds"]) for run in runs.values()))


def against_independent(result: PartResult, others: Sequence[PartResult]) -> list[Pair]:
    """A part that goes on from other runs' weights: each method with the one in another part that does
    not, and is trained alike in all else."""
    independent = [method for other in others if not other.part.start_from for method in other.methods]
    chosen = []
    for method in result.methods if result.part.start_from else ():
        twin = next((one for one in independent if _same_training(one, method)), None)
        if twin is not None:
            chosen.append(
                (
                    replace(method, name=f"{method.name}, continued"),
                    replace(twin, name=f"{method.name}, independent"),
                )
            )
    return tested(chosen)


def _same_training(one: Method, other: Method) -> bool:
    a, b = one.first, other.first
    alike = (a.recipe, one.protocol) == (b.recipe, other.protocol)
    return alike and training_of(a) == training_of(b)
