"""The supported architectures: a file each, a row each, and nowhere else a list of them.

Neither torch nor transformers is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict

from obert_edge.errors import CheckpointError
from obert_edge.host.architectures.base import CLASS_SUFFIXES, Architecture
from obert_edge.host.architectures.bert import BERT
from obert_edge.host.architectures.camembert import CAMEMBERT
from obert_edge.host.architectures.distilbert import DISTILBERT
from obert_edge.host.architectures.electra import ELECTRA
from obert_edge.host.architectures.mpnet import MPNET
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
    )
}

__all__ = ["ARCHITECTURES", "CLASS_SUFFIXES", "Architecture", "architecture_of"]


def architecture_of(config: Mapping[str, Any], source: object) -> Architecture:
    """The architecture that a configuration names.

    Args:
        config: the content of a ``config.json``.
        source: what to call the model in errors: its folder, or its class.

    Raises:
        CheckpointError: ``model_type`` is missing, or is none of :data:`ARCHITECTURES`.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise CheckpointError(
            f"{source} is a {model_type!r} model; supported are {', '.join(ARCHITECTURES)}",
            hint="start from one of these architectures",
        )
    return ARCHITECTURES[model_type]
