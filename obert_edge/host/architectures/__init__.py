"""The supported architectures, one small table each."""

from __future__ import annotations

from obert_edge.host.architectures.base import Architecture
from obert_edge.host.architectures.bert import BERT
from obert_edge.host.architectures.distilbert import DISTILBERT
from obert_edge.host.architectures.electra import ELECTRA
from obert_edge.host.architectures.roberta import ROBERTA

#: By ``model_type`` of ``config.json``.
ARCHITECTURES = {known.model_type: known for known in (BERT, DISTILBERT, ROBERTA, ELECTRA)}

__all__ = ["ARCHITECTURES", "Architecture"]
