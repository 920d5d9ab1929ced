"""``manifest.json``: what a bundle says about itself, typed and checked.

The fields are documented in ``docs/reference/bundle-format.md``; a field's Python type is its JSON type.
Unknown fields are ignored, so that a later writer can add facts without locking out this reader; a change
that this reader cannot cope with raises ``minimum_reader``.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, NoReturn, Optional, Tuple

from obert_edge.bundle.records import LARGEST, read_record, refuse
from obert_edge.errors import BundleError

#: The version this package writes, and the newest it reads. 2 knows four-bit embeddings and columns as masks;
#: 3 biases and windows of attention, rotary positions and gated units, and what follows the program: modules,
#: prompts, truncated embeddings, functions of logits.
FORMAT_VERSION = 3

DOMAINS = ("tokens", "sequences")
#: More than any encoder has: what lists more would only take time to read.
_MOST_LINEARS, _MOST_LABELS, _MOST_OUTPUTS = 2048, 1 << 18, 32
#: The sizes of a model with the least that each may be.
_LEAST = {
    "hidden": 1,
    "layers": 0,
    "heads": 1,
    "intermediate": 0,
    "embedding": 1,
    "vocabulary": 1,
    "max_length": 1,
    "position_offset": 0,
    "pad_id": 0,
    "type_vocabulary": 0,
}
#: Channels of a module's input or output, at most.
_WIDEST = 1 << 20
_SQUEEZED = ("start_logits", "end_logits")
TASK_TYPES = ("sequence-classification", "question-answering", "token-classification", "masked-lm", "encoder")
#: The output that a pooling on the device reads.
TOKENS_OUTPUT = "last_hidden_state"
#: The outputs that each type of task reads, with their domains; an encoder reads whatever is the first.
_OUTPUTS: Dict[str, Dict[str, str]] = {
    "sequence-classification": {"logits": "sequences"},
    "question-answering": {"start_logits": "tokens", "end_logits": "tokens"},
    "token-classification": {"logits": "tokens"},
    "masked-lm": {"logits": "tokens"},
    "encoder": {},
}
#: Kinds of modules that may follow the program of an encoder.
MODULE_TYPES = ("pooling", "dense", "layer_norm", "normalize")
#: Ways to make one vector of a text's token vectors, by sentence-transformers' names.
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
#: Element-wise functions of a dense module.
DENSE_ACTIVATIONS = ("identity", "tanh", "relu", "gelu", "sigmoid", "silu")
#: What may be applied to a classifier's logits; "": what the type of problem asks for.
SCORE_FUNCTIONS = ("", "identity", "sigmoid", "softmax", "tanh")
#: How two embeddings are compared; "": by their cosine.
SIMILARITIES = ("", "cosine", "dot", "euclidean", "manhattan")
#: What the labels of a sequence classification are.
PROBLEM_TYPES = ("single_label", "multi_label", "regression")


@dataclass(frozen=True)
class ModelFacts:
    """Shape of the encoder.

    Attributes:
        architecture: ``model_type`` of the checkpoint, such as ``bert``.
        class_name: the transformers class, e.g. ``BertForSequenceClassification``.
        hidden: channels of the hidden state.
        layers: number of encoder layers.
        heads: attention heads of each layer.
        intermediate: channels inside the feed-forward part of a layer.
        embedding: channels of the embedding tables (ELECTRA's may be narrower than ``hidden``).
        vocabulary: number of token ids.
        max_length: the longest sequence, in tokens, special tokens included.
        position_offset: position of the first token (RoBERTa: 2).
        pad_id: id of the padding token.
        type_vocabulary: number of token types; 0 when the model has none.
        activation: the feed-forward activation, as transformers names it.
    """

    architecture: str
    class_name: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    embedding: int
    vocabulary: int
    max_length: int
    position_offset: int
    pad_id: int
    type_vocabulary: int
    activation: str


@dataclass(frozen=True)
class ModuleFacts:
    """A module that makes embeddings of what the program gives, computed by the device's pipeline.

    Its weights are float32 in ``modules.bin``, those of all modules one behind the other: of a dense module
    the matrix [outputs, inputs], the bias [outputs] and the matrix of its residual, the latter two where it
    has them; of a layer norm the weight and the bias [outputs].

    Attributes:
        type: one of ``MODULE_TYPES``.
        inputs: channels it reads.
        outputs: channels it writes.
        modes: of a pooling, some of ``POOLING_MODES``, whose results are put one behind the other.
        include_prompt: of a pooling, whether the tokens of the prompt count.
        activation: of a dense module, one of ``DENSE_ACTIVATIONS``.
        bias: of a dense module, whether it has one.
        residual: of a dense module, whether its input is added to its result, through a matrix where they
            have different numbers of channels.
        epsilon: of a layer norm, what is added to the variance.
    """

    type: str
    inputs: int
    outputs: int
    modes: List[str] = field(default_factory=list)
    include_prompt: bool = True
    activation: str = "identity"
    bias: bool = False
    residual: bool = False
    epsilon: float = 0.0

    @property
    def shapes(self) -> List[Tuple[int, ...]]:
        """Shapes of its weights in ``modules.bin``, in order."""
        if self.type == "layer_norm":
            return [(self.outputs,), (self.outputs,)]
        if self.type != "dense":
            return []
        matrix = (self.outputs, self.inputs)
        through_matrix = self.residual and self.inputs != self.outputs
        return [matrix, *([(self.outputs,)] * self.bias), *([matrix] * through_matrix)]


@dataclass(frozen=True)
class TaskFacts:
    """What the outputs mean.

    Attributes:
        type: one of ``TASK_TYPES``.
        labels: names of the classes by index; empty where there are none.
        problem_type: one of ``PROBLEM_TYPES`` for classification, else "".
        pooling: ``mean``, ``cls`` or ``pooler`` for an encoder whose program pools, else "".
        normalize: whether an embedding, behind all modules, is to be divided by its length.
        modules: what makes the embedding of the program's pooled output, or of its token vectors where the
            first is a pooling; in order.
        prompts: texts to put before an input, by name.
        default_prompt_name: the prompt of inputs for which nobody names one; "": none.
        similarity: how embeddings are compared, one of ``SIMILARITIES``.
        truncate_dim: how many numbers of an embedding are kept, counted behind ``normalize``; 0: all.
        function: what makes scores of a classifier's logits, one of ``SCORE_FUNCTIONS``.
    """

    type: str
    labels: List[str] = field(default_factory=list)
    problem_type: str = ""
    pooling: str = ""
    normalize: bool = False
    modules: List[ModuleFacts] = field(default_factory=list)
    prompts: Dict[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    similarity: str = ""
    truncate_dim: int = 0
    function: str = ""

    @property
    def minimum_reader(self) -> int:
        """The oldest reader that answers rightly: the first two know only the first five fields."""
        # An older reader that ignores other prompts and the similarity is not wrong: it has no way to ask.
        newer = self.modules or self.default_prompt_name or self.truncate_dim or self.function
        return 3 if newer else 1


@dataclass(frozen=True)
class OutputFacts:
    """One result of the model: float32 [tokens or sequences, channels]."""

    name: str
    domain: str
    channels: int

    @property
    def is_squeezed(self) -> bool:
        """Whether transformers gives it without the last axis, which has one value."""
        return self.channels == 1 and self.domain == "tokens" and self.name in _SQUEEZED


@dataclass(frozen=True)
class QuantizationFacts:
    """How the model was quantized.

    Attributes:
        method: how the 8-bit scales were found: ``qat``, ``calibrate``...
        activations: ``static``, ``dynamic`` or ``mixed``.
        embeddings: rows of the word embeddings: ``int8`` or ``int4``.
    """

    method: str
    activations: str
    embeddings: str = "int8"


@dataclass(frozen=True)
class QualityFacts:
    """How much the bundle answers like the model it was built from, as the build measured it.

    Attributes:
        against: what it was compared with: ``float``, or ``fake-quant`` for a model that was trained with
            quantization; "": it was not measured.
        texts: how many texts both answered; 0: it was not measured.
        cosine: of all outputs of all texts, as one vector.
        least_cosine: the smallest of the texts' own.
        answers: classes or spans that were compared; 0 where the outputs are numbers or vectors.
        agreement: the share of these that were the same, 0..1.
    """

    against: str = ""
    texts: int = 0
    cosine: float = 0.0
    least_cosine: float = 0.0
    answers: int = 0
    agreement: float = 0.0

    @property
    def summary(self) -> str:
        """One line for people."""
        if not self.texts:
            return "not measured against the model"
        kind = "float" if self.against == "float" else "fake-quantized"
        line = (
            f"cosine {self.cosine:.3f} between all outputs on {self.texts} texts and the {kind} model's, "
            f"text by text at least {self.least_cosine:.3f}"
        )
        return line + (
            f", {100 * self.agreement:.1f} % of {self.answers} answers alike" if self.answers else ""
        )


@dataclass(frozen=True)
class SourceFacts:
    """Where the model came from, by its name on a hub and by the head of its model card.

    Attributes:
        repository: its name on the hub; "": it came from a folder.
        commit: the commit of that repository, in hexadecimal.
        license: as the card names it, several with commas between; "": not said.
        base_models: what the card says it was made from.
        languages: as the card names them.
        pipeline_tag: what the card says it is for, such as ``sentence-similarity``.
    """

    repository: str = ""
    commit: str = ""
    license: str = ""
    base_models: List[str] = field(default_factory=list)
    languages: List[str] = field(default_factory=list)
    pipeline_tag: str = ""

    @property
    def is_known(self) -> bool:
        """Whether anything is said."""
        return self != SourceFacts()

    @property
    def summary(self) -> str:
        """One line for people."""
        named = f"{self.repository} at commit {self.commit[:12]}" if self.repository else "a folder"
        parts = [
            f"from {named}",
            f"license {self.license or 'not said'}",
            *([f"base model {', '.join(self.base_models)}"] if self.base_models else []),
            *([f"language {', '.join(self.languages)}"] if self.languages else []),
            *([f"for {self.pipeline_tag}"] if self.pipeline_tag else []),
        ]
        return ", ".join(parts)


@dataclass(frozen=True)
class LinearFacts:
    """One packed linear.

    Attributes:
        n: output channels.
        k: input channels.
        sparsity: fraction of zero weights after quantization, 0..1.
        format: name of a ``WeightFormat``.
        bytes: of the packed arrays (indices and weights).
        cost: predicted time per 64-token panel, in the unit of the target's cost model.
        dense_cost: the same, were the layer stored dense.
        per_token: whether it runs on every token (else once per sequence).
        sparse_format: the cheapest format that leaves zeros out, chosen or not; empty when unknown.
        sparse_cost: what it would cost.
    """

    name: str
    n: int
    k: int
    sparsity: float
    format: str
    bytes: int
    cost: float
    dense_cost: float
    per_token: bool
    sparse_format: str = ""
    sparse_cost: float = 0.0

    @property
    def in_layer(self) -> bool:
        """Whether it is of one of the encoder's layers, which its name numbers; pruning knows no others."""
        return any(part.isdecimal() for part in self.name.split("."))


@dataclass(frozen=True)
class BoardFacts:
    """What suits one kind of board of the target.

    Attributes:
        model: how ``/proc/device-tree/model`` begins on it.
        threads: how many threads to start where the user names no number.
        cache: bytes of second-level cache that each of them has, which linears are cut into tiles for; 0: no
            tiles.
    """

    model: str
    threads: int
    cache: int


@dataclass(frozen=True)
class MemberFacts:
    """What a member's bytes must be.

    Attributes:
        sha256: of all of it, in hexadecimal.
        bytes: its size.
        chunks: BLAKE2b-256 of every ``CHUNK_BYTES`` of it, for members that are large: they are checked in
            parallel, and BLAKE2b is the faster hash on CPUs without SHA instructions. Empty: none.
    """

    sha256: str
    bytes: int
    chunks: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class SignatureFacts:
    """Who says that this manifest is theirs; see :mod:`obert_edge.bundle.signature`, which alone checks it.

    Attributes:
        key: the public key as a text; "": the bundle is not signed.
        value: the signature, in hexadecimal.
    """

    key: str = ""
    value: str = ""


@dataclass(frozen=True)
class Manifest:
    """The whole manifest; ``members`` lists every other member of the bundle.

    ``reference`` holds the target's measured numbers (``Target.reference``), which ``inspect`` predicts with;
    ``boards`` what suits the boards the target knows (``Target.boards``).
    """

    target: str
    model: ModelFacts
    task: TaskFacts
    outputs: List[OutputFacts]
    quantization: QuantizationFacts
    sparsity: float
    linears: List[LinearFacts]
    quality: QualityFacts = field(default_factory=QualityFacts)
    source: SourceFacts = field(default_factory=SourceFacts)
    tokenizer: Dict[str, Any] = field(default_factory=dict)
    tools: Dict[str, str] = field(default_factory=dict)
    reference: Dict[str, float] = field(default_factory=dict)
    boards: List[BoardFacts] = field(default_factory=list)
    members: Dict[str, MemberFacts] = field(default_factory=dict)
    signature: SignatureFacts = field(default_factory=SignatureFacts)
    format_version: int = FORMAT_VERSION
    minimum_reader: int = 1

    @property
    def encoder_sparsity(self) -> float:
        """The share of zeros, 0..1, in the linears of the encoder's layers alone, as a recipe counts."""
        inside = [linear for linear in self.linears if linear.in_layer]
        weights = sum(linear.n * linear.k for linear in inside)
        return sum(linear.sparsity * linear.n * linear.k for linear in inside) / max(1, weights)

    def to_json(self) -> bytes:
        """The bytes of ``manifest.json``; the same facts give the same bytes."""
        fields = dataclasses.asdict(self)
        for facts in fields["members"].values():
            if not facts["chunks"]:
                del facts["chunks"]
        if not self.signature.key:
            del fields["signature"]
        if not self.source.is_known:
            del fields["source"]
        return (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, source: str = "the bundle") -> Manifest:
        """Parse and check.

        Args:
            text: ``manifest.json``.
            source: what to call the bundle in errors.

        Raises:
            BundleError: not JSON, a field missing or of another type, or a newer format.
        """
        try:
            fields = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"the manifest of {source} is not JSON: {error}", hint="copy the bundle again"
            ) from error
        if not isinstance(fields, dict):
            refuse(source, "is not a JSON object")
        needed = fields.get("minimum_reader")
        if not isinstance(needed, int) or not isinstance(fields.get("format_version"), int):
            refuse(source, "lacks format_version or minimum_reader, two whole numbers")
        if needed > FORMAT_VERSION:
            raise BundleError(
                f"{source} has format version {fields['format_version']}, which needs a reader of version "
                f"{needed}; this obert-edge reads versions up to {FORMAT_VERSION}",
                hint="upgrade obert-edge on this device (pip install -U obert-edge), or run the bundle with "
                "its own runner: python3 model.oeb",
            )
        manifest = read_record(cls, fields, source, "manifest", _NESTED)
        if manifest.task.type not in TASK_TYPES:
            refuse(source, f"names the task {manifest.task.type!r}; known are {', '.join(TASK_TYPES)}")
        for output in manifest.outputs:
            if output.domain not in DOMAINS:
                refuse(source, f"gives output {output.name!r} the domain {output.domain!r}")
        _check_sizes(manifest, source)
        _check_outputs(manifest, source)
        _check_task(manifest.task, source)
        for board in manifest.boards:
            if not board.model or board.threads < 1 or not 0 <= board.cache < 1 << 40:
                found = f"the board {board.model!r} {board.threads} threads and {board.cache} bytes of cache"
                refuse(source, f"gives {found}; expected a name, 1 or more threads and 0 or more bytes")
        return manifest

    def output(self, name: str) -> Optional[OutputFacts]:
        """The output of that name, or ``None``."""
        return next((output for output in self.outputs if output.name == name), None)


def _check_sizes(manifest: Manifest, source: str) -> None:
    """Refuse sizes that no model has: the engine takes 32 bits of each."""
    for name, least in _LEAST.items():
        value = getattr(manifest.model, name)
        if not least <= value < 1 << 31:
            refuse(source, f"gives the model {name} {value}; expected {least} to {2**31 - 1}")
    for name, rate in manifest.reference.items():
        if not 0 < rate < LARGEST:
            refuse(source, f"gives the reference machine {name} = {rate}; expected a rate above 0")
    for what, found, most in (
        ("labels", len(manifest.task.labels), _MOST_LABELS),
        ("linears", len(manifest.linears), _MOST_LINEARS),
    ):
        if found > most:
            refuse(source, f"lists {found} {what}; expected at most {most}")


def _check_outputs(manifest: Manifest, source: str) -> None:
    """Refuse outputs that are not those of the task."""
    if len(manifest.outputs) > _MOST_OUTPUTS:
        refuse(source, f"lists {len(manifest.outputs)} outputs; expected at most {_MOST_OUTPUTS}")
    needed = _OUTPUTS[manifest.task.type]
    found = {output.name: output.domain for output in manifest.outputs}
    fits = all(found.get(name) == domain for name, domain in needed.items())
    if manifest.outputs and (not fits or len(found) < len(manifest.outputs)):
        refuse(source, f"gives the outputs {found} for the task {manifest.task.type}; expected {needed}")
    for output in manifest.outputs:
        if not 0 < output.channels < 1 << 31:
            refuse(source, f"gives output {output.name!r} {output.channels} channels")
        if output.name == "logits" and "classification" in manifest.task.type:
            labels = len(manifest.task.labels)
            if labels > output.channels:
                refuse(source, f"names {labels} labels; its logits have {output.channels} channels")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check_task(task: TaskFacts, source: str) -> None:
    """Refuse what the pipelines cannot compute."""
    for name, value, known in (
        ("function", task.function, SCORE_FUNCTIONS),
        ("similarity", task.similarity, SIMILARITIES),
        ("default prompt", task.default_prompt_name, ("", *task.prompts)),
    ):
        if value not in known:
            refuse(
                source, f"names the {name} {value!r}; known are {', '.join(filter(None, known)) or 'none'}"
            )
    if task.truncate_dim < 0:
        refuse(source, f"keeps {task.truncate_dim} numbers of an embedding; expected 0 or more")
    for index, module in enumerate(task.modules):
        _check_module(module, index, source)
        before = task.modules[index - 1].outputs if index else module.inputs
        if module.inputs != before:
            refuse(source, f"gives module {index} {module.inputs} inputs; the one before writes {before}")


def _check_module(module: ModuleFacts, index: int, source: str) -> None:
    where = f"module {index}"
    if module.type not in MODULE_TYPES:
        refuse(source, f"has {where} of type {module.type!r}; known are {', '.join(MODULE_TYPES)}")
    if module.activation not in DENSE_ACTIVATIONS:
        refuse(source, f"has {where} with the activation {module.activation!r}")
    pools = module.type == "pooling"
    if pools != bool(module.modes) or (pools and index) or not set(module.modes) <= set(POOLING_MODES):
        refuse(source, f"has {where}, {module.type}, with the pooling modes {module.modes}")
    widths_fit = module.type == "dense" or module.outputs == module.inputs * max(1, len(module.modes))
    if not (0 < module.inputs <= _WIDEST and 0 < module.outputs <= _WIDEST and widths_fit):
        refuse(source, f"has {where}, {module.type}, from {module.inputs} to {module.outputs} channels")


_NESTED: Dict[str, Any] = {
    record.__name__: record
    for record in (
        ModelFacts,
        ModuleFacts,
        TaskFacts,
        OutputFacts,
        QuantizationFacts,
        QualityFacts,
        SourceFacts,
        LinearFacts,
        BoardFacts,
        MemberFacts,
        SignatureFacts,
    )
}
