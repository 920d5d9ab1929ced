"""Make a checkpoint to measure with: the shape of a known model, random weights, an exact sparsity pattern.

    python -m tools.bench.models --shape bert-base --sparsity 0.8 --pattern 4x1 -o base80 --build x86
    python -m tools.bench.models --shape minilm-l6 --sparsity 0.9 --pattern unstructured -o minilm90
    python -m tools.bench.models --architecture roberta --layers 3 --pattern dense -o roberta3

Speed depends on shapes and on where the zeros are, not on what the weights mean, so nothing is trained. The
folder is what transformers would save, with a synthetic tokenizer, and a quantization.json from a short
calibration on random token ids. Linears inside the encoder's layers get the pattern; the others stay dense.

Needs: the host's packages (torch, transformers).
Takes: about half a minute for BERT-base.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from obert_edge.calibration import calibrate
from obert_edge.errors import UsageError
from obert_edge.files import atomic_folder
from obert_edge.host.compiler import build
from obert_edge.host.pruning.masks import prunable_linears
from obert_edge.host.pruning.patterns import Pattern
from obert_edge.host.quantization.checkpoint import quantization_record
from tools import command_line

#: The shapes of known models: layers, hidden channels, attention heads, channels of a feed-forward part.
SHAPES: Dict[str, Tuple[int, int, int, int]] = {
    "bert-base": (12, 768, 12, 3072),
    "minilm-l6": (6, 384, 12, 1536),
    "tinybert": (4, 312, 12, 1200),
    "distilbert-base": (6, 768, 12, 3072),
    "modernbert-base": (22, 768, 12, 1152),
    "deberta-v3-base": (12, 768, 12, 3072),
    "deberta-v3-small": (6, 768, 12, 3072),
    "deberta-v3-xsmall": (12, 384, 6, 1536),
    "mobilebert": (24, 512, 4, 512),
}
#: The shape of each family's base size. Jina v3 has only a large one.
BASE_SHAPES: Dict[str, str] = {
    "bert": "bert-base",
    "distilbert": "distilbert-base",
    "roberta": "bert-base",
    "electra": "bert-base",
    "xlm-roberta": "bert-base",
    "camembert": "bert-base",
    "mpnet": "bert-base",
    "modernbert": "modernbert-base",
    "deberta-v2": "deberta-v3-base",
    "nomic_bert": "bert-base",
    "gte": "bert-base",
    "jina_embeddings_v3": "bert-base",
    "eurobert": "bert-base",
    "albert": "bert-base",
    "mobilebert": "mobilebert",
}
CLASS_PREFIXES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "electra": "Electra",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "mpnet": "MPNet",
    "modernbert": "ModernBert",
    "deberta-v2": "DebertaV2",
    "nomic_bert": "NomicBert",
    "gte": "Gte",
    "jina_embeddings_v3": "JinaEmbeddingsV3",
    "eurobert": "EuroBert",
    "albert": "Albert",
    "mobilebert": "MobileBert",
}
TASKS = {
    "sequence-classification": "ForSequenceClassification",
    "question-answering": "ForQuestionAnswering",
    "token-classification": "ForTokenClassification",
    "masked-lm": "ForMaskedLM",
    "encoder": "Model",
}
VOCABULARIES = {
    "roberta": 50265,
    "xlm-roberta": 250002,
    "camembert": 32005,
    "mpnet": 30527,
    "modernbert": 50368,
    "deberta-v2": 128100,
    "nomic_bert": 30528,
    "gte": 250048,
    "jina_embeddings_v3": 250002,
    "eurobert": 128256,
    "albert": 30000,
}
#: Those with RoBERTa's special tokens, whose positions start after the padding id.
_LIKE_ROBERTA = ("roberta", "xlm-roberta", "camembert", "mpnet")
#: Those whose tokenizer here is RoBERTa's byte-level BPE: MPNet's is WordPiece, those of the other two are
#: Unigram, which matters to no speed.
_BYTE_LEVEL = ("roberta", "xlm-roberta", "camembert")
_BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@dataclass(frozen=True)
class Spec:
    """A checkpoint to make.

    Attributes:
        architecture: one of ``CLASS_PREFIXES``.
        task: one of ``TASKS``.
        layers, hidden, heads, intermediate: the shape, as in :data:`SHAPES`.
        sparsity: fraction of the pattern's blocks that are zero, 0 <= sparsity < 1.
        pattern: ``4x1``, ``2x1``, ``1x4``, ``unstructured`` or ``dense``.
        vocabulary: token ids; 0: as many as the architecture usually has.
        positions: the longest sequence, in tokens.
        seed: the seed of everything random.
    """

    architecture: str = "bert"
    task: str = "sequence-classification"
    layers: int = 12
    hidden: int = 768
    heads: int = 12
    intermediate: int = 3072
    sparsity: float = 0.8
    pattern: str = "4x1"
    vocabulary: int = 0
    positions: int = 512
    seed: int = 0

    @classmethod
    def of_shape(cls, shape: str, *, layers: Optional[int] = None, **others: Any) -> Spec:
        """A checkpoint of a known shape.

        Args:
            shape: one of :data:`SHAPES`.
            layers: ``None``: as many as the shape has.
            others: further attributes by name.
        """
        usual_layers, hidden, heads, intermediate = SHAPES[shape]
        sizes: Dict[str, Any] = {"hidden": hidden, "heads": heads, "intermediate": intermediate}
        return cls(layers=layers or usual_layers, **sizes, **others)


def make_checkpoint(folder: Path, spec: Spec, *, overwrite: bool = False) -> Path:
    """Write a model folder and return it.

    Raises:
        UsageError: the pattern or the sparsity is not one there is, or the folder exists.
    """
    torch.manual_seed(spec.seed)
    model = make_model(spec)
    tokenizer = make_tokenizer(spec.architecture, model.config.vocab_size)
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        calibrate(model, _random_batches(model.config, spec), observer="minmax")
        record = json.dumps(quantization_record(model, "calibrate"), indent=1)
        (temporary / "quantization.json").write_text(record)
    return folder


def ensure_bundle(folder: Path, spec: Spec) -> Path:
    """Return the x86 bundle of a random model in a folder; make it first where an earlier run did not.

    The checkpoint it is made from, hundreds of megabytes, is not kept.
    """
    sparsity = "" if spec.pattern == "dense" else f"-{spec.sparsity:g}"
    path = folder / f"{spec.architecture}-{spec.layers}x{spec.hidden}-{spec.pattern}{sparsity}.oeb"
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr)
        checkpoint = make_checkpoint(folder / path.stem, spec, overwrite=True)
        # How random weights answer in eight bits says nothing.
        build(checkpoint, "x86", path, min_cosine=-1.0)
        shutil.rmtree(checkpoint)
    return path


def make_model(spec: Spec) -> Any:
    """The transformers model, pruned at random."""
    sizes: Dict[str, Any] = {
        "vocab_size": spec.vocabulary or VOCABULARIES.get(spec.architecture, 30522),
        "max_position_embeddings": spec.positions + 2 * (spec.architecture in _LIKE_ROBERTA),
        "num_labels": 2,
    }
    if spec.architecture == "distilbert":
        sizes.update(dim=spec.hidden, hidden_dim=spec.intermediate, n_layers=spec.layers, n_heads=spec.heads)
    else:
        sizes.update(
            hidden_size=spec.hidden,
            intermediate_size=spec.intermediate,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
        )
    if spec.architecture in _LIKE_ROBERTA:
        sizes.update(type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    if spec.architecture == "modernbert":
        sizes.update(
            dict.fromkeys((f"{name}_token_id" for name in ("bos", "eos", "cls", "sep")), 3), pad_token_id=0
        )
    if spec.architecture == "deberta-v2":  # as the models of version 3 are configured
        sizes.update(
            relative_attention=True,
            position_buckets=min(256, spec.positions // 2),
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type="p2c|c2p",
            position_biased_input=False,
        )
    if spec.architecture == "eurobert":
        sizes.update(
            dict.fromkeys((f"{name}_token_id" for name in ("bos", "eos", "mask")), 3), pad_token_id=0
        )
    if spec.architecture == "mobilebert":
        sizes["intra_bottleneck_size"] = spec.hidden // 4
    if spec.architecture in ("electra", "albert", "mobilebert"):
        sizes["embedding_size"] = min(128, spec.hidden)
    prefix = CLASS_PREFIXES[spec.architecture]
    config = getattr(transformers, f"{prefix}Config")(**sizes)
    model = getattr(transformers, f"{prefix}{TASKS[spec.task]}")(config).eval()
    with torch.no_grad():
        for linear in prunable_linears(model).values():
            linear.weight.copy_(sparse_weights(linear.weight.shape, spec.sparsity, spec.pattern))
    return model


def sparse_weights(shape: Tuple[int, int], sparsity: float, pattern: str) -> torch.Tensor:
    """Random weights of which exactly ``round(sparsity * blocks)`` blocks are zero, and no other weight.

    Args:
        shape: [out, in].
        sparsity: 0 <= sparsity < 1; must be 0 where ``pattern`` is ``dense``.
        pattern: see :class:`Spec`.

    Raises:
        UsageError: no block, a block that does not divide the shape, or a sparsity out of range.
    """
    block = Pattern(1, 1) if pattern == "dense" else Pattern.parse(pattern)
    wanted = 0.0 if pattern == "dense" else sparsity
    if block.keep is not None or not 0 <= wanted < 1:
        raise UsageError(
            f"pattern {pattern!r} with sparsity {sparsity}: random models take a block and 0 <= sparsity < 1",
            hint="for instance --pattern 4x1 --sparsity 0.8, or --pattern dense",
        )
    rows, columns = shape[0] // block.rows, shape[1] // block.columns
    if (rows * block.rows, columns * block.columns) != tuple(shape):
        raise UsageError(
            f"{pattern} blocks do not divide a matrix of {shape[0]}x{shape[1]}",
            hint="choose a pattern that divides every matrix of the shape",
        )
    kept = torch.ones(rows * columns)
    kept[torch.randperm(rows * columns)[: round(wanted * rows * columns)]] = 0
    mask = kept.view(rows, columns).repeat_interleave(block.rows, 0).repeat_interleave(block.columns, 1)
    # The deviation gives a layer's outputs the variance they have in a dense model. No weight that is kept is
    # so small that INT8 would round it to zero.
    deviation = 0.02 / (1 - wanted) ** 0.5
    weights = torch.randn(shape)
    weights = torch.where(weights < 0, -1.0, 1.0) * weights.abs().clamp(0.05, 4.0)
    result: torch.Tensor = weights * deviation * mask
    return result


def make_tokenizer(architecture: str, vocabulary: int) -> Any:
    """A tokenizer whose vocabulary has the right size: letters, digits and made-up words."""
    byte_level = architecture in _BYTE_LEVEL
    special = _ROBERTA_SPECIAL if architecture in _LIKE_ROBERTA else _BERT_SPECIAL
    if byte_level:
        pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-"
        pieces = [*letters, *(f"##{letter}" for letter in letters)]
    tokens = [*special, *pieces]
    if vocabulary < len(tokens):
        raise UsageError(
            f"a vocabulary of {vocabulary} cannot hold {len(tokens)} letters", hint="use a larger one"
        )
    tokens += [f"token{i}" for i in range(vocabulary - len(tokens))]
    ids = {token: i for i, token in enumerate(tokens)}
    if byte_level:
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        unknown = "<unk>" if architecture in _LIKE_ROBERTA else "[UNK]"
        tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    if architecture in _LIKE_ROBERTA:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        roles = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
        roles.update(pad_token="<pad>", unk_token="<unk>", mask_token="<mask>")
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
        )
        roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        roles["mask_token"] = "[MASK]"
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, **roles)


def _random_batches(config: Any, spec: Spec) -> List[Dict[str, torch.Tensor]]:
    """Two batches of random token ids that are no special tokens, for the calibration."""
    length = min(64, spec.positions)
    shape = (4, length)
    low = min(1000, config.vocab_size // 2)
    return [{"input_ids": torch.randint(low, config.vocab_size, shape)} for _ in range(2)]


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Make what the command line asks for."""
    parser = command_line.parser("tools.bench.models", __doc__)
    parser.add_argument("--shape", choices=list(SHAPES), default="bert-base", help="(default: bert-base)")
    parser.add_argument(
        "--architecture", choices=list(CLASS_PREFIXES), default="bert", help="(default: bert)"
    )
    parser.add_argument(
        "--task",
        choices=list(TASKS),
        default="sequence-classification",
        help="decides the head (default: sequence-classification)",
    )
    parser.add_argument("--layers", type=int, help="(default: the shape's)")
    parser.add_argument(
        "--sparsity", type=float, default=0.8, help="part of the blocks that is zero (default: 0.8)"
    )
    parser.add_argument(
        "--pattern", default="4x1", help="4x1, 2x1, 1x4, unstructured or dense (default: 4x1)"
    )
    parser.add_argument(
        "--positions", type=int, default=512, help="the longest sequence in tokens (default: 512)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights and their pattern (default: 0)")
    parser.add_argument("--build", metavar="TARGET", help="also build OUTPUT/model.oeb for this target")
    parser.add_argument("--overwrite", action="store_true", help="replace the folder where it exists")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the model folder")
    options = parser.parse_args(arguments)
    spec = Spec.of_shape(
        options.shape,
        architecture=options.architecture,
        task=options.task,
        layers=options.layers,
        sparsity=options.sparsity,
        pattern=options.pattern,
        positions=options.positions,
        seed=options.seed,
    )
    print(make_checkpoint(options.output, spec, overwrite=options.overwrite))
    if options.build:
        print(build(options.output, options.build, options.output / "model.oeb", min_cosine=-1.0))


if __name__ == "__main__":
    sys.exit(command_line.run(main))
