"""What stages, scores and whole runs report: typed, with the plain values that their JSON files hold."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional


@dataclass(frozen=True)
class Figures:
    """The figures of a finished stage; each stage has a subclass of its own."""

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON: absent figures are left out, those of training stand beside the others."""
        result: Dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, TrainingFigures):
                result.update(value.to_dict())
            elif dataclasses.is_dataclass(value) and not isinstance(value, type):
                result[field.name] = dataclasses.asdict(value)
            elif value is not None:
                result[field.name] = value
        return result

    def __str__(self) -> str:
        numbers = {key: value for key, value in self.to_dict().items() if isinstance(value, (int, float))}
        return ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())


@dataclass(frozen=True)
class TrainingFigures(Figures):
    """What a training run did.

    Attributes:
        steps: optimizer steps, those before an interruption included.
        seconds: wall time since the last start.
        loss: logged last; None: none was.
    """

    steps: float
    seconds: float
    loss: Optional[float] = None


@dataclass(frozen=True)
class StageReport:
    """What a stage did: the content of ``stage.json``.

    Attributes:
        stage: name of the stage.
        task: name of the task; None: the stage had none.
        options: what the stage was told, as plain values by part ("training", "pruning", ...).
        figures: what came of it.
        output: the folder or file it wrote.
        sparsity: share of the encoder's linear weights that are zero in it; None: it is no model folder.
    """

    stage: str
    task: Optional[str]
    options: Dict[str, Any]
    figures: Figures
    output: Path
    sparsity: Optional[float] = None

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON, without the place of the output, which may be moved."""
        return {
            "stage": self.stage,
            "task": self.task,
            **self.options,
            "figures": {**self.figures.to_dict(), **self._zeros()},
        }

    def __str__(self) -> str:
        figures = str(self.figures)
        if "sparsity" not in self.figures.to_dict():
            zeros = (f"{key} {value:.4g}" for key, value in self._zeros().items())
            figures = ", ".join(filter(None, (figures, *zeros)))
        return f"{self.stage}: wrote {self.output} ({figures})"

    def _zeros(self) -> Dict[str, float]:
        return {} if self.sparsity is None else {"sparsity": self.sparsity}


@dataclass(frozen=True)
class Score:
    """How good a model is on a split of its task.

    Attributes:
        model: the folder or bundle.
        kind: ``float``, ``fake-quant`` or ``bundle``.
        task: name of the task.
        split: the rows.
        n: examples.
        metric: name of the deciding one.
        metrics: all of them by name, in percent where that makes sense.
        against: another model whose answers were compared; None: there was none.
        agreement: percent of examples that both answer alike.
        stage: the stage of a recipe that made the model; None: it is not of a recipe.
    """

    model: str
    kind: str
    task: str
    split: str
    n: int
    metric: str
    metrics: Dict[str, float]
    against: Optional[str] = None
    agreement: Optional[float] = None
    stage: Optional[str] = None

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON; what is absent is left out."""
        values = {"stage": self.stage, **dataclasses.asdict(self)}
        return {key: value for key, value in values.items() if value is not None}

    def __str__(self) -> str:
        metrics = ", ".join(f"{name} {value:.2f}" for name, value in self.metrics.items())
        agreement = "" if self.agreement is None else f", agreement {self.agreement:.2f} %"
        return f"{self.model} ({self.kind}): {metrics} on {self.n} of {self.split}{agreement}"


@dataclass(frozen=True)
class Summary:
    """What a whole recipe came to: the content of ``summary.json``.

    Attributes:
        recipe: its plain values.
        stages: scores of the results that have the task's head, in the order of the stages.
    """

    recipe: Dict[str, Any]
    stages: List[Score]

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        return {"recipe": self.recipe, "stages": [score.to_dict() for score in self.stages]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.stages))
