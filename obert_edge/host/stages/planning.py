"""What a recipe would do, step by step, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.pruning.schedule import RewindingLearningRate
from obert_edge.host.stages.recipe import PruneStage, Recipe
from obert_edge.host.stages.settings import Distillation, Pruning, Training
from obert_edge.host.stages.timing import make_rates, make_schedule, plain_rates, steps_per_epoch, total_steps


def plan(recipe: Recipe) -> Dict[str, Any]:
    """The stages of a recipe with their steps, sparsities and learning rates.

    Training rows are counted in the data where they are at hand, else ``task.rows`` says how many.

    Args:
        recipe: from :meth:`Recipe.load`.

    Returns:
        ``stages``: per stage ``stage``, ``folder``, and for training ``rows``, ``steps``,
        ``steps_per_epoch``, ``batch``, ``rates`` (step and rate at every turn), ``pruning`` (step,
        epoch and sparsity of every pruning step), ``distillation``.

    Raises:
        UsageError: pruning does not fit into training, or the rows are not known.
    """
    stages: List[Dict[str, Any]] = []
    for name, stage, about in _stages(recipe):
        folder = "model.oeb" if name == "build" else f"{len(stages) + 1}-{name}"
        stages.append({"stage": name, "folder": str(Path(recipe.output) / folder), **about})
        if stage is not None:
            stages[-1].update(_trained(recipe, stage))
    return {"model": recipe.model, "task": recipe.task.name, "data": recipe.task.data, "stages": stages}


def _stages(recipe: Recipe) -> Iterator[Tuple[str, Any, Dict[str, Any]]]:
    """Name of each stage, what of the recipe says how it trains (None: it does not), what else to tell."""
    if recipe.trim is not None:
        yield "trim", None, _told(min_count=recipe.trim.min_count, pieces=recipe.trim.keep)
    if recipe.finetune is not None:
        yield "finetune", recipe.finetune, {}
    if recipe.drop is not None:
        yield "drop", recipe.drop, {"keep": list(recipe.drop.keep)}
    if recipe.transfer is not None:
        yield "transfer", recipe.transfer, {}
    if recipe.prune is not None:
        prune = recipe.prune
        about = {"method": prune.method, "pattern": prune.pattern, "sparsity": prune.sparsity}
        yield "prune", prune, about
    if recipe.quantize is not None:
        last = recipe.quantize
        embeddings = last.for_build(recipe.build).embeddings
        about = _told(method=last.method, activations=last.activations, embeddings=embeddings)
        yield "quantize", last if last.method == "qat" else None, about
    if recipe.build is not None:
        yield "build", None, _told(target=recipe.build.target, embeddings=recipe.build.embeddings)


def _told(**about: Any) -> Dict[str, Any]:
    """What there is to tell."""
    return {key: value for key, value in about.items() if value is not None}


def _trained(recipe: Recipe, stage: Any) -> Dict[str, Any]:
    """The training of a stage: of ``finetune`` the stage itself, of the others a part of it."""
    pruning: Optional[Pruning] = stage.pruning if isinstance(stage, PruneStage) else None
    if isinstance(stage, Training):
        return _training(stage, _rows(recipe, stage), None, None)
    options: Training = stage.training
    if not options.none:
        return _training(options, _rows(recipe, options), stage.distillation, pruning)
    return {"steps": 0, **({"pruning": _one_shot(pruning)} if pruning is not None else {})}


def describe(content: Dict[str, Any]) -> str:
    """A plan as text, a line per stage, pruning step and turn of the rate."""
    lines = [f"{content['model']} on {content['task']} ({content['data']})"]
    for stage in content["stages"]:
        shown = (
            "min_count",
            "pieces",
            "method",
            "pattern",
            "sparsity",
            "keep",
            "activations",
            "target",
            "embeddings",
        )
        about = ", ".join(f"{key} {stage[key]}" for key in shown if key in stage)
        lines.append(f"{stage['stage']} -> {stage['folder']}" + (f"  ({about})" if about else ""))
        if stage.get("steps"):
            lines.append(
                f"  {stage['steps']} steps of {stage['batch']} ({stage['steps_per_epoch']} per epoch of "
                f"{stage['rows']} rows)"
            )
        for moment in stage.get("pruning", []):
            when = (
                "at once"
                if moment["step"] is None
                else f"step {moment['step']:>7} (epoch {moment['epoch']:g})"
            )
            lines.append(f"  prune {when} to {100 * moment['sparsity']:.2f} %")
        if stage.get("rates"):
            turns = ", ".join(f"{rate:.2e} at {step}" for step, rate in stage["rates"])
            lines.append(f"  learning rate {turns}")
        if stage.get("distillation"):
            teacher = stage["distillation"]
            hidden = f", hidden states {teacher['hidden_states']:g}" if teacher["hidden_states"] else ""
            lines.append(
                f"  teacher {teacher['teacher'] or 'the dense model'}: hardness {teacher['hardness']:g}, "
                f"temperature {teacher['temperature']:g}{hidden}"
            )
    return "\n".join(lines)


def _training(
    options: Training, rows: int, teacher: Optional[Distillation], pruning: Optional[Pruning]
) -> Dict[str, Any]:
    epoch, steps = steps_per_epoch(options, rows), total_steps(options, rows)
    result: Dict[str, Any] = {
        "rows": rows,
        "steps": steps,
        "steps_per_epoch": epoch,
        "batch": options.batch_size * options.accumulate,
    }
    rates = plain_rates(options, steps)
    if pruning is not None:
        schedule = make_schedule(pruning, steps)
        moments = schedule.resolve(epoch)
        if max(moments) >= steps:
            raise UsageError(
                f"the last pruning step is before optimizer step {max(moments)}, training has {steps}",
                hint="end the schedule before the end of training, so that the model can recover",
            )
        rates = make_rates(options, pruning, schedule, steps, epoch)
        result["pruning"] = [
            {"step": step, "epoch": round(step / epoch, 4), "sparsity": sparsity}
            for step, sparsity in moments.items()
        ]
    result["rates"] = _turns(rates, steps)
    if teacher is not None and not teacher.none:
        result["distillation"] = {
            "teacher": teacher.teacher,
            "hardness": teacher.hardness,
            "temperature": teacher.temperature,
            "hidden_states": teacher.hidden_states,
        }
    return result


def _one_shot(pruning: Pruning) -> List[Dict[str, Any]]:
    return [{"step": None, "epoch": 0.0, "sparsity": pruning.sparsity}]


def _turns(rates: RewindingLearningRate, steps: int) -> List[Tuple[int, float]]:
    """Step and rate where the rate starts, turns and ends."""
    last = steps - 1
    points = {0, min(int(rates.warmup), last), last}
    for moment in map(int, rates.rewinds):
        points |= {max(moment - 1, 0), moment}
    return [(step, rates.rate(step, 1)) for step in sorted(points)]


def _rows(recipe: Recipe, options: Training) -> int:
    """Training features: counted where model and data are at hand, else what the recipe says."""
    from obert_edge.host.data import load_task, load_tokenizer

    task = recipe.task
    try:
        loaded = load_task(
            task.name,
            task.data,
            text_columns=task.text_columns,
            label_column=task.label_column,
            labels=task.labels,
            tune=task.tune,
        )
        tokenizer = load_tokenizer(Path(recipe.model))
        return len(loaded.features("train", tokenizer, max_length=options.max_length))
    except ObertEdgeError as error:
        if task.rows is None:
            raise UsageError(
                f"the training rows cannot be counted: {error.message}",
                hint="put the data where the recipe says, or give their number as `rows` below task",
            ) from error
        return task.rows
