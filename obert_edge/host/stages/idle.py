"""Options that were given and can have no effect: they are refused, with the reason. Without torch.

On the command line an option counts as given when it is there; in a recipe, where a default that is written
down looks like one that is not, when it has another value. Python's functions take whole objects of settings,
such as one ``Training`` for several stages, of which the fields that do not concern a stage are left alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Collection, Dict, Iterable, Iterator, Optional, Tuple, Type, cast

from obert_edge.errors import UsageError
from obert_edge.host.options import Option, Settings, brief
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.settings import Training
from obert_edge.host.stages.stage import Stage, TaskKind


def refuse_idle(
    stage: Stage[Any], settings: Settings, kind: TaskKind, given: Optional[Collection[str]] = None
) -> None:
    """Refuse an option that was given and has no effect.

    Args:
        stage: what is to be done.
        settings: what it was told, without what other stages say.
        kind: what the task is.
        given: options of the command line that are there, by their path, such as ``training.epochs``; None:
            the settings are a recipe's.

    Raises:
        UsageError: there is one.
    """
    reasons = stage.idle(settings, kind)
    options = {path: one for path, one, _, _ in _found(settings)}
    for path in given or ():
        if path in reasons:
            flag = options[path].flag if path in options else f"--{path}"
            raise UsageError(f"{flag} is given, and has no effect: {reasons[path]}", hint=f"leave {flag} out")
    for path, one, value, default in _found(settings):
        if given is None and path in reasons and value not in (one.default, default):
            usual = "null" if one.default is None else one.default_text
            raise UsageError(
                f"{stage.name}.{path} is {brief(value)}, and has no effect: {reasons[path]}",
                hint=f"leave it out; where a recipe that this one extends has it, write {one.name}: {usual}",
            )


def untrained(kept: Collection[str], why: str) -> Dict[str, str]:
    """The options of training and of a teacher, where nothing is trained, but those that count all the same.

    Args:
        kept: the options of training that count.
        why: nothing is trained.
    """
    training = (f"training.{one.name}" for one in Training.options() if one.name not in kept)
    return dict.fromkeys([*training, *_all(Distillation, "distillation.")], why)


def of_training(training: Training, below: str = "training.") -> Dict[str, str]:
    """The options of a training that others take the place of."""
    if training.max_steps is None:
        return {}
    return {f"{below}epochs": "max_steps says how many steps there are"}


def of_teacher(taught: Optional[Distillation], kind: TaskKind) -> Dict[str, str]:
    """The options of learning from a teacher that do not count for a task, or where nobody teaches."""
    if taught is None:
        return {}
    if taught.none and not kind.embeds:
        names = [name for name in _all(Distillation) if name not in ("hardness", "hidden_states")]
        return dict.fromkeys(
            (f"distillation.{name}" for name in names),
            "hardness and hidden_states are 0: there is no teacher",
        )
    if kind.embeds:
        return {"distillation.temperature": "an embedder has no softmax; what counts is similarities"}
    reasons = {"distillation.similarities": "it is of task embedding alone"}
    if kind.regression:
        reasons["distillation.temperature"] = "a regression has no softmax"
    elif taught.hardness == 0:
        reasons["distillation.temperature"] = "hardness is 0: the teacher's answers are not learned"
    return reasons


def _all(kind: Type[Settings], below: str = "") -> Iterable[str]:
    return [below + one.name for one in kind.options()]


def _found(
    settings: Settings, below: str = "", usual: Optional[Settings] = None
) -> Iterator[Tuple[str, Option, Any, Any]]:
    """Path, option, value, and value where nobody says anything about the part it is in, of every option."""
    for one in settings.options():
        yield below + one.name, one, getattr(settings, one.name), getattr(usual, one.name, one.default)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, settings))}
    for name in settings.parts():
        part, factory = getattr(settings, name), fields[name].default_factory
        if part is not None:
            default = factory() if callable(factory) else None
            yield from _found(part, f"{below}{name}.", default)
