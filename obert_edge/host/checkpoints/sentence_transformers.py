"""Folders of sentence-transformers: the modules around an encoder, prompts, and what texts are cut to.

What versions 1 to 6 wrote is read without importing any of it: ``modules.json`` names the modules and their
folders, every module has a ``config.json`` (the Transformer has ``sentence_bert_config.json``), and
``config_sentence_transformers.json`` holds what belongs to the whole model. What cannot be computed is
refused, with what was found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Sequence, Set, Tuple

from obert_edge.bundle.manifest import POOLING_MODES, SIMILARITIES, ModuleFacts
from obert_edge.errors import CheckpointError
from obert_edge.host.checkpoints.checkpoint import CONFIG, Checkpoint, read_json
from obert_edge.host.checkpoints.sparseml import Floats

MODULES = "modules.json"
MODEL = "config_sentence_transformers.json"
POOLING = "1_Pooling"
#: What the Transformer's file is called; in version 0 it had the architecture's name in place of BERT's.
TRANSFORMER = "sentence_bert_config.json"
OLD_TRANSFORMERS = "sentence_*_config.json"

EMBEDDER = "SentenceTransformer"
RERANKER = "CrossEncoder"

#: Module types start with this; the last word of the type is the class, wherever a version put it.
_PACKAGE = "sentence_transformers."
_KNOWN = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
#: Written names of functions -> ours; a name is compared, never imported.
_FUNCTIONS = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Softmax": "softmax",
}
_OF_DENSE = ("identity", "tanh", "relu", "gelu", "sigmoid", "silu")
_OF_SCORES = ("identity", "sigmoid", "softmax", "tanh")
#: Switches of a pooling before version 5.3, in the order in which their results stand.
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SENTENCE, _TOKENS = "sentence_embedding", "token_embeddings"
#: torch's default, which version 6 has no field for.
_LAYER_NORM_EPSILON = 1e-5
#: Arguments of the Transformer's parts that change nothing about its answers.
_HARMLESS = {
    "add_pooling_layer",
    "attn_implementation",
    "cache_dir",
    "dtype",
    "local_files_only",
    "low_cpu_mem_usage",
    "padding_side",
    "revision",
    "token",
    "torch_dtype",
    "trust_remote_code",
    "use_cache",
    "use_fast",
    "use_safetensors",
}


@dataclass(frozen=True)
class SentenceModel:
    """What a folder says besides the encoder; the defaults are what a folder of transformers alone says.

    Attributes:
        kind: ``SentenceTransformer``, ``CrossEncoder``, another class of the library, or "": none is named.
        listed: whether there is a ``modules.json``.
        poolings: how a vector is made of a text's token vectors, some of ``POOLING_MODES``; empty: the folder
            does not say.
        include_prompt: whether the tokens of the prompt are pooled.
        modules: what follows the pooling, without a Normalize at the end.
        weights: of those modules, as ``ModuleFacts.shapes`` has them.
        normalize: whether a Normalize ends them.
        prompts: texts to put before an input, by name.
        default_prompt_name: the one for inputs without a prompt; "": none.
        similarity: how embeddings are compared; "": not said.
        truncate_dim: how many numbers of an embedding are kept; 0: all.
        function: what a CrossEncoder makes of its logits, as it is named; "": not said.
        max_length: tokens that texts are cut to, special ones included; ``None``: not said.
        lowercase: whether texts are lowercased, whatever the tokenizer does.
    """

    kind: str = ""
    listed: bool = False
    poolings: Tuple[str, ...] = ()
    include_prompt: bool = True
    modules: Tuple[ModuleFacts, ...] = ()
    weights: Tuple[Floats, ...] = ()
    normalize: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""
    similarity: str = ""
    truncate_dim: int = 0
    function: str = ""
    max_length: Optional[int] = None
    lowercase: bool = False

    @property
    def weight_bytes(self) -> bytes:
        """The weights as a bundle's ``modules.bin`` holds them."""
        return b"".join(array.astype("<f4").tobytes() for array in self.weights)


class _Listed(NamedTuple):
    """An entry of ``modules.json``: its class, its type as written, and its folder."""

    word: str
    type: str
    folder: Path


def encoder_folder(folder: Path) -> Path:
    """Where the encoder of a model folder is: before version 2, sentence-transformers used a sub-folder.

    Raises:
        CheckpointError: ``modules.json`` cannot be read, or leads out of the folder.
    """
    folder = Path(folder)
    for module in _listed_modules(folder):
        if module.word == "Transformer" and (module.folder / CONFIG).is_file():
            return module.folder
    return folder


def read_sentence_model(checkpoint: Checkpoint, hidden: int, *, only_lengths: bool = False) -> SentenceModel:
    """Interpret what sentence-transformers wrote beside an encoder.

    Args:
        checkpoint: the encoder.
        hidden: channels of its token vectors.
        only_lengths: leave out everything but the kind and the lengths: another head is compiled.

    Raises:
        CheckpointError: a file is damaged, or asks for something that cannot be computed.
    """
    root = _root(checkpoint.folder)
    listed = _listed_modules(root)
    model = read_json(root / MODEL) or {}
    kind = _kind(root, listed, model, checkpoint.config)
    others = only_lengths or kind not in (EMBEDDER, RERANKER)
    max_length, lowercase = _lengths(checkpoint.folder, root, strict=not others)
    if others:
        return SentenceModel(kind, bool(listed), max_length=max_length, lowercase=lowercase)
    chain = _Chain(root, hidden)
    if listed:
        chain.read(listed, kind)
    elif (root / POOLING / CONFIG).is_file():
        chain.pooling(_Listed("Pooling", "Pooling", root / POOLING))
    prompts, default = _prompts(root, model)
    return SentenceModel(
        kind=kind,
        listed=bool(listed),
        poolings=chain.poolings,
        include_prompt=chain.include_prompt,
        modules=tuple(chain.modules),
        weights=tuple(chain.weights),
        normalize=chain.normalize,
        prompts=prompts,
        default_prompt_name=default,
        similarity=_similarity(root, model) if kind == EMBEDDER else "",
        truncate_dim=_truncate_dim(root, model) if kind == EMBEDDER else 0,
        function=_function_of_scores(root, model, checkpoint.config) if kind == RERANKER else "",
        max_length=max_length,
        lowercase=lowercase,
    )


def lowercased(tokenizer: bytes) -> bytes:
    """A ``tokenizer.json`` that lowercases first, as ``do_lower_case`` has the Transformer do.

    Args:
        tokenizer: the file.
    """
    description = json.loads(tokenizer)
    normalizer = description.get("normalizer")
    inner = [normalizer] if normalizer else []
    if normalizer and normalizer.get("type") == "Sequence":
        inner = list(normalizer["normalizers"])
    # BERT's own normalizer lowercases, too: before it another Lowercase changes nothing.
    if any(part.get("type") == "Lowercase" or part.get("lowercase") is True for part in inner):
        return tokenizer
    description["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *inner]}
    return json.dumps(description, ensure_ascii=False).encode()


# ---- which files, and whose


def _root(folder: Path) -> Path:
    """The folder that ``modules.json`` is in: the encoder's own, or the one around it."""
    if (folder / MODULES).is_file():
        return folder
    try:
        around = _listed_modules(folder.parent)
    except CheckpointError:  # a file of that name that is not about this folder
        return folder
    return folder.parent if any(module.folder == folder for module in around) else folder


def _listed_modules(root: Path) -> List[_Listed]:
    path = root / MODULES
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {error}", hint="copy the model again"
        ) from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CheckpointError(f"{path} is not a list of objects", hint="copy the model again")
    if not entries:
        raise CheckpointError(f"{path} lists no modules", hint="copy the model again, or remove the file")
    return [_entry(root, entry) for entry in entries]


def _entry(root: Path, entry: Mapping[str, Any]) -> _Listed:
    kind, place = entry.get("type"), entry.get("path")
    if not isinstance(kind, str) or not isinstance(place, str):
        raise CheckpointError(
            f"{root / MODULES} has a module of type {kind!r} at {place!r}; expected two texts",
            hint="copy the model again",
        )
    parts = PurePosixPath(place.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise CheckpointError(
            f"{root / MODULES} names the folder {place!r}, which is outside the model folder",
            hint="do not use a model you do not trust",
        )
    word = kind.rsplit(".", 1)[-1] if kind.startswith(_PACKAGE) else ""
    return _Listed(word if word in _KNOWN else "", kind, root / parts)


def _kind(root: Path, listed: List[_Listed], model: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    named = model.get("model_type")
    if isinstance(named, str) and named:
        return named
    if not listed and _own_function(config):
        return RERANKER
    there_is_any = listed or model or (root / POOLING / CONFIG).is_file()
    return EMBEDDER if there_is_any else ""


def _own_function(config: Mapping[str, Any]) -> Any:
    """What the ``config.json`` of a CrossEncoder of version 4 or older says of its function."""
    nested = config.get("sentence_transformers")
    if isinstance(nested, dict) and nested.get("activation_fn"):
        return nested["activation_fn"]
    return config.get("sbert_ce_default_activation_function")


# ---- what belongs to the whole model


def _prompts(root: Path, model: Mapping[str, Any]) -> Tuple[Dict[str, str], str]:
    prompts, default = model.get("prompts") or {}, model.get("default_prompt_name")
    texts = isinstance(prompts, dict) and all(isinstance(p, (str, type(None))) for p in prompts.values())
    if not texts:
        _refuse(root / MODEL, f"has prompts {prompts!r}", "expected texts by name")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        names = ", ".join(prompts) or "none"
        _refuse(root / MODEL, f"has the default prompt {default!r}", f"its prompts are {names}")
    return {name: text or "" for name, text in prompts.items()}, default or ""


def _similarity(root: Path, model: Mapping[str, Any]) -> str:
    name = model.get("similarity_fn_name") or ""
    if not isinstance(name, str) or name not in SIMILARITIES:
        known = ", ".join(filter(None, SIMILARITIES))
        _refuse(root / MODEL, f"has the similarity {name!r}", f"supported are {known}")
    return str(name)


def _truncate_dim(root: Path, model: Mapping[str, Any]) -> int:
    kept = model.get("truncate_dim")
    if kept is not None and (type(kept) is not int or kept < 1):
        _refuse(root / MODEL, f"has truncate_dim = {kept!r}", "expected a whole number above 0")
    return kept or 0


def _function_of_scores(root: Path, model: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    named = model.get("activation_fn") or _own_function(config)
    return _function(named, _OF_SCORES, f"the CrossEncoder {root}") if named else ""


def _function(named: Any, supported: Sequence[str], where: Any) -> str:
    # torch.nn.Tanh is the same class as torch.nn.modules.activation.Tanh.
    short = {f"torch.nn.{name.rsplit('.', 1)[-1]}": ours for name, ours in _FUNCTIONS.items()}
    ours = {**_FUNCTIONS, **short}.get(str(named), "")
    if ours not in supported:
        names = (name for name, function in _FUNCTIONS.items() if function in supported)
        _refuse(where, f"has the activation function {named!r}", f"supported are {', '.join(names)}")
    return ours


# ---- the modules


class _Chain:
    """Reads the modules behind an encoder, one by one, and follows how wide the vectors are."""

    def __init__(self, root: Path, hidden: int) -> None:
        self.root = root
        self.width = hidden
        self.poolings: Tuple[str, ...] = ()
        self.include_prompt = True
        self.modules: List[ModuleFacts] = []
        self.weights: List[Floats] = []
        self.normalize = False

    def read(self, listed: List[_Listed], kind: str) -> None:
        """All modules of ``modules.json``."""
        for module in listed:
            if not module.word:
                supported = ", ".join(_KNOWN)
                _refuse(
                    self.root / MODULES, f"has a module of type {module.type}", f"supported are {supported}"
                )
        words = [module.word for module in listed]
        expected = ["Transformer"] if kind == RERANKER else ["Transformer", "Pooling"]
        tail = words[len(expected) :]
        if (
            words[: len(expected)] != expected
            or not set(tail) <= set(_KNOWN[2:])
            or (kind == RERANKER and tail)
        ):
            _refuse(
                self.root / MODULES,
                f"lists the modules {', '.join(words)}",
                "supported is a Transformer alone for a CrossEncoder, and for a SentenceTransformer a "
                f"Transformer, a Pooling, and then any of {', '.join(_KNOWN[2:])}",
            )
        readers = {"Pooling": self.pooling, "Dense": self._dense, "LayerNorm": self._layer_norm}
        for module in listed[1:]:
            if module.word == "Normalize":
                self._names(module.folder / CONFIG, read_json(module.folder / CONFIG) or {})
                self.modules.append(ModuleFacts("normalize", self.width, self.width))
            elif module.word != "Dropout":  # which does nothing outside training
                readers[module.word](module)
        self.normalize = bool(self.modules) and self.modules[-1].type == "normalize"
        if self.normalize:
            self.modules.pop()

    def pooling(self, module: _Listed) -> None:
        """A Pooling, in the form of any version."""
        path = module.folder / CONFIG
        config = _config(path)
        width = config.get("embedding_dimension", config.get("word_embedding_dimension", self.width))
        if width != self.width:
            _refuse(path, f"pools vectors of {width!r} numbers", f"the encoder gives {self.width}")
        modes = config.get("pooling_mode")
        if not isinstance(modes, (str, list, type(None))):
            modes = [modes]  # refused below
        if modes is None:
            on = [name for name, value in config.items() if name.startswith("pooling_mode") and value is True]
            modes = [mode for switch, mode in _SWITCHES.items() if switch in on]
            modes += [name for name in on if name not in _SWITCHES]  # unknown ones are refused below
            modes = modes or ["mean"]
        modes = [modes] if isinstance(modes, str) else list(modes)
        if not modes:
            _refuse(path, "has no pooling_mode", f"supported are {', '.join(POOLING_MODES)}")
        unknown = [mode for mode in modes if mode not in POOLING_MODES]
        if unknown:
            _refuse(path, f"asks for the pooling {unknown[0]!r}", f"supported are {', '.join(POOLING_MODES)}")
        self.poolings = tuple(modes)
        self.include_prompt = config.get("include_prompt", True) is not False
        self.width *= len(modes)

    def _dense(self, module: _Listed) -> None:
        path = module.folder / CONFIG
        config = _config(path)
        inputs, outputs = config.get("in_features"), config.get("out_features")
        if inputs != self.width or type(outputs) is not int or outputs < 1:
            found = f"is a Dense from {inputs!r} to {outputs!r} numbers"
            _refuse(path, found, f"the module before it gives {self.width}")
        self._names(path, config)
        named = config.get("activation_function", "torch.nn.modules.activation.Tanh")
        bias, residual = config.get("bias", True) is True, config.get("use_residual", False) is True
        facts = ModuleFacts(
            "dense",
            self.width,
            outputs,
            activation=_function(named, _OF_DENSE, path),
            bias=bias,
            residual=residual,
        )
        names = ["linear.weight", *["linear.bias"] * bias, *["residual.weight"] * residual]
        self._append(facts, Checkpoint.open_module(module.folder, config), names[: len(facts.shapes)])

    def _layer_norm(self, module: _Listed) -> None:
        path = module.folder / CONFIG
        config = _config(path)
        if config.get("dimension") != self.width:
            found = f"is a LayerNorm of {config.get('dimension')!r} numbers"
            _refuse(path, found, f"the module before it gives {self.width}")
        facts = ModuleFacts("layer_norm", self.width, self.width, epsilon=_LAYER_NORM_EPSILON)
        self._append(facts, Checkpoint.open_module(module.folder, config), ["norm.weight", "norm.bias"])

    def _append(self, facts: ModuleFacts, tensors: Checkpoint, names: Sequence[str]) -> None:
        self.weights += [tensors.tensor(name, shape) for name, shape in zip(names, facts.shapes)]
        left = sorted(set(tensors.names) - set(names))
        if left:
            _refuse(tensors.folder, f"has the tensors {', '.join(left)}", f"its {CONFIG} implies no such")
        self.modules.append(facts)
        self.width = facts.outputs

    def _names(self, path: Path, config: Mapping[str, Any]) -> None:
        """Refuse a module that reads or writes something else than the vector of the text."""
        for key in ("module_input_name", "module_output_name"):
            if config.get(key) not in (None, _SENTENCE):
                _refuse(path, f"has {key} = {config[key]!r}", f"supported is {_SENTENCE!r}")


def _config(path: Path) -> Dict[str, Any]:
    config = read_json(path)
    if config is None:
        raise CheckpointError(
            f"{path} is missing, which {MODULES} implies", hint="copy every sub-folder of the model"
        )
    return config


# ---- the Transformer's own file


def _lengths(folder: Path, root: Path, *, strict: bool) -> Tuple[Optional[int], bool]:
    """What texts are cut to, and whether they are lowercased.

    Args:
        folder: of the encoder.
        root: of the whole model.
        strict: refuse settings that change the answers in a way that is not supported.
    """
    found = [
        (place / name, config)
        for place in dict.fromkeys((folder, root))
        for name in (TRANSFORMER, *sorted(path.name for path in place.glob(OLD_TRANSFORMERS)))
        if (config := read_json(place / name)) is not None
    ]
    path, config = found[0] if found else (folder / TRANSFORMER, {})
    if strict:
        _check_transformer(path, config)
    processor = config.get("processor_kwargs") or config.get("tokenizer_args") or {}
    own = read_json(folder / "tokenizer_config.json") or {}
    # Tokenizers of 2019 call their limit max_len.
    limit = own.get("model_max_length", own.get("max_len"))
    said = (
        (path, processor.get("model_max_length")),
        (path, config.get("max_seq_length")),
        (folder / "tokenizer_config.json", limit),
    )
    place, given = next(((place, length) for place, length in said if length is not None), (path, None))
    # A tokenizer without a limit says 1e30.
    if given is None or (isinstance(given, (int, float)) and given > _NO_LIMIT):
        return None, config.get("do_lower_case") is True
    if type(given) is not int or given < 1:
        if place != path:
            raise CheckpointError(
                f"{place} has model_max_length = {repr(given)[:60]}; expected a whole number above 0",
                hint="write the tokens that a text may have, or leave model_max_length out",
            )
        _refuse(path, f"cuts texts to {repr(given)[:60]} tokens", "expected a whole number above 0")
    return given, config.get("do_lower_case") is True


_NO_LIMIT = 1 << 30


def _check_transformer(path: Path, config: Mapping[str, Any]) -> None:
    for group, allowed in (
        ("model_args", _HARMLESS),
        ("model_kwargs", _HARMLESS),
        ("config_args", _HARMLESS),
        ("config_kwargs", _HARMLESS),
        ("tokenizer_args", {*_HARMLESS, "model_max_length"}),
        ("processor_kwargs", {*_HARMLESS, "model_max_length"}),
    ):
        _only(path, group, config.get(group), allowed)
    for key in ("processing_kwargs", "query_expansion"):
        if config.get(key):
            _refuse(path, f"has {key} = {config[key]!r}", "supported are folders without it")
    task = config.get("transformer_task", "feature-extraction")
    heads = {
        "feature-extraction": ("last_hidden_state", _TOKENS),
        "sequence-classification": ("logits", "scores"),
    }
    if task not in heads:
        _refuse(path, f"has transformer_task = {task!r}", f"supported are {', '.join(heads)}")
    expected, name = heads[task]
    text = (config.get("modality_config") or {}).get("text")
    if config.get("modality_config") and (not text or text.get("method_output_name") != expected):
        _refuse(path, f"reads {text!r} of the encoder", f"supported is {expected} of a text")
    if config.get("module_output_name", name) != name:
        _refuse(path, f"has module_output_name = {config['module_output_name']!r}", f"supported is {name!r}")


def _only(path: Path, group: str, given: Any, allowed: Set[str]) -> None:
    if given is not None and not isinstance(given, dict):
        _refuse(path, f"has {group} = {given!r}", "expected an object")
    unknown = sorted(set(given or {}) - allowed)
    if unknown:
        _refuse(path, f"has {unknown[0]} in {group}", f"supported are {', '.join(sorted(allowed))}")


def _refuse(where: Any, found: str, expected: str) -> NoReturn:
    raise CheckpointError(
        f"{where} {found}; {expected}",
        hint="build the encoder alone from a folder with only transformers' files and the tokenizer, or "
        "change what is named here and save the model again",
    )
