"""The supported architectures: a file each, a row each, and nowhere else a list of them.

Neither torch nor transformers is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict, Optional, Tuple

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures.albert import ALBERT
from obert_edge.host.architectures.base import CLASS_SUFFIXES, Architecture
from obert_edge.host.architectures.bert import BERT
from obert_edge.host.architectures.camembert import CAMEMBERT
from obert_edge.host.architectures.deberta_v2 import DEBERTA_V2
from obert_edge.host.architectures.distilbert import DISTILBERT
from obert_edge.host.architectures.electra import ELECTRA
from obert_edge.host.architectures.eurobert import EUROBERT
from obert_edge.host.architectures.gte import GTE
from obert_edge.host.architectures.jina_embeddings_v3 import JINA_EMBEDDINGS_V3
from obert_edge.host.architectures.mobilebert import MOBILEBERT
from obert_edge.host.architectures.modernbert import MODERNBERT
from obert_edge.host.architectures.mpnet import MPNET
from obert_edge.host.architectures.nomic_bert import NOMIC_BERT
from obert_edge.host.architectures.roberta import ROBERTA
from obert_edge.host.architectures.xlm_roberta import XLM_ROBERTA

#: Every architecture by its ``model_type`` in ``config.json``. Adding one: its file, and its row here.
ARCHITECTURES: Dict[str, Architecture] = {
    known.model_type: known
    for known in (
        BERT,
        DISTILBERT,
        ROBERTA,
        ELECTRA,
        XLM_ROBERTA,
        CAMEMBERT,
        MPNET,
        MODERNBERT,
        DEBERTA_V2,
        NOMIC_BERT,
        GTE,
        JINA_EMBEDDINGS_V3,
        EUROBERT,
        ALBERT,
        MOBILEBERT,
    )
}

__all__ = ["ARCHITECTURES", "CLASS_SUFFIXES", "Architecture", "architecture_of"]

_DECODER = "it reads from left to right to write text, and has no encoder"
_TWO_PARTS = "it is an encoder with a decoder that writes text"
_ROTARY = "it has rotary positions in another graph than those that are supported"
_DISENTANGLED = "its attention multiplies with relative positions in another graph than deberta-v2's"
_SPARSE_ATTENTION = "its attention leaves most pairs of tokens out, which the engine has no op for"
_PRE_NORM = "it normalizes before each block, in another graph than modernbert's"
_CONVOLUTIONS = "it has convolutions, which the engine has no op for"

#: Model types that are asked for and not supported: why not, and what comes nearest.
_REFUSED: Dict[str, Tuple[str, str]] = {
    **dict.fromkeys(
        ("gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma")
        + ("gemma2", "gemma3_text", "phi", "phi3", "opt", "bloom", "falcon", "xglm", "ctrl", "openai-gpt"),
        (_DECODER, "fine-tune an encoder on the task, such as a roberta model"),
    ),
    **dict.fromkeys(
        ("t5", "mt5", "umt5", "longt5", "bart", "mbart", "marian", "pegasus", "m2m_100", "prophetnet"),
        (_TWO_PARTS, "for a classifier or for embeddings fine-tune an encoder, such as a roberta model"),
    ),
    **dict.fromkeys(
        ("deberta", "xlnet", "funnel", "sew-d"),
        (_DISENTANGLED, "the nearest is deberta-v2, whose models are v2 and v3 of DeBERTa; or mpnet"),
    ),
    **dict.fromkeys(
        ("roformer", "esm"),
        (_ROTARY, "the nearest is jina_embeddings_v3, nomic_bert or modernbert"),
    ),
    **dict.fromkeys(
        ("longformer", "big_bird", "led", "reformer"),
        (_SPARSE_ATTENTION, "the nearest is modernbert, which takes 8,192 tokens"),
    ),
    **dict.fromkeys(
        ("xlm-roberta-xl", "roberta-prelayernorm", "megatron-bert", "xmod"),
        (_PRE_NORM, "the nearest is xlm-roberta, roberta or modernbert"),
    ),
    **dict.fromkeys(
        ("convbert", "squeezebert"), (_CONVOLUTIONS, "the nearest is electra, distilbert or a MiniLM (bert)")
    ),
}


def architecture_of(config: Mapping[str, Any], source: object) -> Architecture:
    """The architecture that a configuration names.

    Args:
        config: the content of a ``config.json``.
        source: what to call the model in errors: its folder, or its class.

    Raises:
        CheckpointError: ``model_type`` is missing, or is none of :data:`ARCHITECTURES`; or the model computes
            something else under a name that is, by code of its own.
    """
    model_type, code = config.get("model_type"), _own_code(config)
    known = isinstance(model_type, str) and model_type in ARCHITECTURES
    if known and code is None:
        return ARCHITECTURES[str(model_type)].configured(config)
    why, nearest = _REFUSED.get(str(model_type), ("", "start from one of these architectures"))
    if code is not None:
        why = f"its config.json names code of its own (auto_map: {code}), which may compute anything"
        if known:
            nearest = f"where the weights are those of a plain {model_type}, take auto_map out of config.json"
            if ARCHITECTURES[str(model_type)].renamings:  # published before transformers had it
                prefix = ARCHITECTURES[str(model_type)].class_prefix
                nearest += f"; or load it with transformers' own {prefix}Model, and save it again"
    raise CheckpointError(
        f"{source} is a {model_type!r} model; supported are {', '.join(ARCHITECTURES)}"
        + (f". {why[0].upper()}{why[1:]}" if why else ""),
        hint=nearest,
    )


def _own_code(config: Mapping[str, Any]) -> Optional[str]:
    """The class in a model's own code that transformers would run (``auto_map``); None: it has none."""
    named = config.get("auto_map")
    if not isinstance(named, Mapping):
        return None
    classes = [value for key, value in named.items() if str(key).startswith(("AutoModel", "AutoConfig"))]
    return str(classes[-1]) if classes else None
