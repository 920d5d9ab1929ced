"""What a stage is, and what it works with while it runs.

Importing this module, or that of a stage, does not import torch: settings are checked and dry runs made where
it is absent. So what computes is imported where a stage runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    Dict,
    Generic,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
)

from obert_edge.errors import DataError
from obert_edge.host.data.base import ENCODER
from obert_edge.host.data.embedding import Embeddings
from obert_edge.host.data.glue import DEFINITIONS
from obert_edge.host.data.label_columns import REGRESSION
from obert_edge.host.options import Settings
from obert_edge.host.pruning.settings import Distillation
from obert_edge.host.stages.reports import Figures, TrainingFigures
from obert_edge.host.stages.settings import TaskSettings, Training, training_of
from obert_edge.host.stages.timing import TrainingPlan, plain_rates, total_steps
from obert_edge.packages import TORCH_PACKAGES, TRAINING_PACKAGES

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn
    from transformers import TrainerCallback

    from obert_edge.host.data import Feature, Task
    from obert_edge.host.pruning import OutputLoss, RewindingLearningRate
    from obert_edge.host.stages.batching import AnswerReader
    from obert_edge.host.stages.logs import ProgressCallback

S = TypeVar("S", bound=Settings)

REPORT = "stage.json"


@dataclass(frozen=True)
class RecipeContext:
    """What a stage of a recipe knows of the others.

    Attributes:
        dense: folder of the model that the recipe fine-tunes, which teaches later stages; None: it does not.
        start: the model the recipe starts from, where it has the task's head; None: it has not.
        embeddings: the word embeddings that the recipe's bundle will have; None: it does not say.
        activations: how the recipe quantizes them; None: it does not quantize.
        head: the head that a stage before this one trains; None: the model keeps the one that it starts with.
    """

    dense: Optional[str] = None
    start: Optional[str] = None
    embeddings: Optional[str] = None
    activations: Optional[str] = None
    head: Optional[str] = None


class TaskKind(NamedTuple):
    """What decides of a task which options count, known before its data are read.

    Attributes:
        embeds: it trains an embedder, which has no labels and no softmax.
        regression: its labels are numbers, as far as anybody says so.
    """

    embeds: bool = False
    regression: bool = False

    @classmethod
    def of(cls, task: Optional[Task], told: Optional[TaskSettings] = None) -> TaskKind:
        """The kind of a task, or of one that is not loaded by what was told of it.

        Args:
            task: the task; None: it is not loaded.
            told: its settings.
        """
        if task is not None:
            return cls(task.head == ENCODER, task.problem_type == "regression")
        if told is None:
            return cls()
        known = DEFINITIONS.get(told.name)
        problem_type = told.problem_type if known is None else known.problem_type
        return cls(told.name == Embeddings.name, problem_type == REGRESSION)


@dataclass(frozen=True)
class PlannedStage:
    """What a stage would do.

    Attributes:
        stage: its name.
        about: its deciding options; those that are absent are None.
        training: how it would train; None: it does not.
        output: the folder or file it would write.
    """

    stage: str
    about: Mapping[str, Any]
    training: Optional[TrainingPlan] = None
    output: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        training = {} if self.training is None else self.training.to_dict()
        about = {key: value for key, value in self.about.items() if value is not None}
        return {"stage": self.stage, "folder": self.output, **about, **training}


class Stage(ABC, Generic[S]):
    """One kind of work: it reads a model folder and writes another, or a bundle.

    The runner (:mod:`obert_edge.host.stages.runner`) gives it its folders, goes on with what an interrupted
    run left, and writes its report; a stage says what it can be told, what it would do, and does it. Its
    docstring is its help on the command line, where MODEL is what it reads.
    """

    #: Its key in a recipe, part of its folder's name, and what its report says.
    name: ClassVar[str]
    #: Its verb on the command line.
    verb: ClassVar[str]
    #: What it can be told.
    settings: ClassVar[Type[Settings]]
    #: Whether it cannot do without a task.
    needs_task: ClassVar[bool] = True
    #: Whether it writes one file, and not a folder.
    writes_file: ClassVar[bool] = False
    #: Whether it gives a model without the task's head a new one, because it trains on labels.
    makes_head: ClassVar[bool] = False

    def output_name(self, number: int) -> str:
        """Name of its output among those of a recipe, in which it is the ``number``-th stage, from 1."""
        return f"{number}-{self.name}"

    def finished(self, output: Path) -> bool:
        """Whether ``output`` is there already, whole."""
        return (output / REPORT).is_file()

    def needs_labels(self, settings: S) -> bool:
        """Whether it learns from the task's labels; else the model keeps the head it has, or has none."""
        return True

    def check(self, settings: S, task: Optional[Task]) -> None:
        """Refuse what cannot be done, before anything is written.

        Raises:
            UsageError: settings do not go together, or with the task.
        """

    def check_ahead(
        self, settings: S, model: Optional[Path], task: Optional[Task], context: RecipeContext
    ) -> None:
        """Refuse, before the first stage of a recipe runs, what this one would refuse of what they leave.

        Args:
            settings: what it was told, with what the other stages say.
            model: folder of the model that the recipe starts from; None: it is not at hand.
            task: the task; None: its data are not at hand.
            context: what the stages know of each other.

        Raises:
            ObertEdgeError: it would refuse something.
        """

    def idle(self, settings: S, kind: TaskKind) -> Dict[str, str]:
        """The options that have no effect beside the others, each with the reason.

        Args:
            settings: what it was told.
            kind: what the task is.

        Returns:
            Reasons by the option's name; below a part it is ``training.epochs``.
        """
        return {}

    def needed_packages(self, settings: S) -> Tuple[str, ...]:
        """The optional packages that it cannot do without, with these settings."""
        training = training_of(settings)
        return TORCH_PACKAGES if training is None or training.none else TRAINING_PACKAGES

    def in_recipe(self, settings: S, context: RecipeContext) -> S:
        """The settings with what the other stages of a recipe say."""
        return settings

    def tell_others(self, context: RecipeContext, output: Path) -> RecipeContext:
        """What later stages know when this one has written ``output``."""
        return context

    @abstractmethod
    def plan(self, settings: S, rows: Callable[[Training], int]) -> PlannedStage:
        """What the stage would do.

        Args:
            settings: what it was told.
            rows: counts the features it would train on.
        """

    @abstractmethod
    def apply(self, run: StageRun, settings: S) -> Figures:
        """Do the work: read ``run.source``, write into ``run.output``.

        A stage that trains leaves checkpoints in ``run.work``, and when it finds some there it goes on from
        the last one, to the very weights it would have ended with.
        """

    @abstractmethod
    def recorded(self, settings: S) -> Dict[str, Any]:
        """The settings as the report has them: plain values by part."""


@dataclass(frozen=True)
class StageRun:
    """What a running stage works with.

    Attributes:
        stage: its name.
        source: the model folder to read.
        given_task: the task; None: there is none.
        output: the folder to fill, or the file to write.
        work: the folder for checkpoints and logs, which an interruption leaves in place.
        limit: use only so many rows of train; None: all.
        progress: whether to show progress on stderr.
        as_it_is: whether the model keeps the head it has, whatever the task.
    """

    stage: str
    source: Path
    given_task: Optional[Task]
    output: Path
    work: Path
    limit: Optional[int] = None
    progress: bool = True
    as_it_is: bool = False

    @property
    def task(self) -> Task:
        """The task of a stage that needs one."""
        assert self.given_task is not None, "the runner refuses such a stage without a task"
        return self.given_task

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        from obert_edge.host.stages.models import task_tokenizer

        return task_tokenizer(self.source, self.given_task)

    @cached_property
    def pad_token_id(self) -> int:
        """What fills a batch where a row is short."""
        from obert_edge.host.stages.models import read_config

        return read_config(self.source).get("pad_token_id") or 0

    @cached_property
    def bar(self) -> Optional[ProgressCallback]:
        """The progress bar of training; None: nothing is shown."""
        from obert_edge.host.stages.logs import ProgressCallback

        return ProgressCallback(f"{self.stage} {self.task.name}") if self.progress else None

    def features(self, training: Training) -> List[Feature]:
        """The rows of the train split, tokenized.

        Raises:
            DataError: there is none, or none that a stage which needs labels could learn from.
        """
        features = self.task.features(
            "train", self.tokenizer, max_length=training.max_length, limit=self.limit
        )
        augmented = (self.task.augment(feature, row) for row, feature in enumerate(features))
        if not features or not (self.as_it_is or any(map(_teaches, augmented))):
            rows = "" if self.limit is None else f" among the first {self.limit}"
            raise DataError(
                f"split 'train' of task {self.task.name!r} has no row{rows} that can be trained on",
                hint="give rows with an answer that is in the text (squad) or with words that the tokenizer "
                "knows (tokens, mlm), or a larger --limit",
            )
        return features

    def load_network(self, training: Training, *, new_head: bool = False) -> nn.Module:
        """The model with the task's head, or as it is where the stage needs no labels.

        Args:
            training: its seed initializes what is new.
            new_head: whether a head that the checkpoint lacks may be made.
        """
        from obert_edge.host.stages.models import load_as_it_is, load_model

        if self.as_it_is and self.task.head != ENCODER:
            return load_as_it_is(self.source)
        return load_model(self.source, self.task, seed=training.seed, new_head=new_head)

    def train(
        self,
        network: nn.Module,
        features: Sequence[Feature],
        training: Training,
        *,
        distillation: Optional[Distillation] = None,
        layers: Optional[Sequence[int]] = None,
        rates: Optional[RewindingLearningRate] = None,
        callbacks: Sequence[TrainerCallback] = (),
        log_extra: Optional[Callable[[], Dict[str, float]]] = None,
    ) -> TrainingFigures:
        """Train the model in place, or go on where an interrupted run was.

        The zeros of a pruned model stay, unless ``training.dense`` or a callback of the stage says otherwise.

        Args:
            network: from :meth:`load_network`.
            features: from :meth:`features`.
            training: steps, rates, precision.
            distillation: the teacher; None: labels only.
            layers: the teacher's layer that each layer of the student follows; None: evenly spaced.
            rates: the learning rate; None: one linear decay.
            callbacks: further callbacks of transformers' Trainer.
            log_extra: values for other columns of the log.
        """
        from obert_edge.host.pruning import PruningCallback
        from obert_edge.host.stages.sparsity import is_pruned, keep_zeros
        from obert_edge.host.stages.training import make_distillation, make_score, train

        teacher = None
        if distillation is not None:
            teacher = make_distillation(distillation, self.source, self.task, layers, training.max_length)
        kept = [one for one in callbacks if isinstance(one, PruningCallback)]
        if not kept and not training.dense and is_pruned(network):
            kept = [keep_zeros()]
            callbacks = [*callbacks, *kept]
        if kept and log_extra is None:
            log_extra = lambda: {"sparsity": kept[0].masks.sparsity if kept[0].masks else 0.0}  # noqa: E731
        return train(
            network,
            features,
            training,
            self.work,
            distillation=teacher,
            rates=rates or plain_rates(training, total_steps(training, len(features))),
            pad_token_id=self.pad_token_id,
            callbacks=callbacks,
            log_extra=log_extra,
            augment=self.task.augment,
            score=make_score(self.task, self.tokenizer, training, self.pad_token_id, self._answers),
            bar=self.bar,
            name=self.stage,
        )

    @property
    def output_loss(self) -> OutputLoss:
        """Gradients of what the model gives, for a stage that has no labels to take them of."""
        from obert_edge.host.pruning import OutputLoss

        if self.task.head != ENCODER:
            return OutputLoss()
        from obert_edge.host.checkpoints.sentence_embedding import SentenceEmbedding

        return OutputLoss(SentenceEmbedding.of(self.source).compared)

    @property
    def _answers(self) -> Optional[AnswerReader]:
        """What turns a model's outputs into answers; None: they are its logits."""
        from obert_edge.host.stages.models import answer_reader

        return answer_reader(self.source, self.task)

    def save(self, network: nn.Module) -> None:
        """Write a float model with what goes with it and the report of its zeros."""
        from obert_edge.host.pruning import prunable_weights
        from obert_edge.host.stages.models import save_model
        from obert_edge.host.stages.sparsity import write_sparsity

        save_model(network, self.source, self.output)
        write_sparsity(prunable_weights(network), self.output)


def _teaches(feature: Feature) -> bool:
    """Whether a row has a label at all: with a label per token it may have none."""
    from obert_edge.host.data.base import IGNORED

    labels = feature.get("labels")
    return not isinstance(labels, list) or any(label != IGNORED for label in labels)
