"""CamemBERT (Martin et al. 2019): RoBERTa's graph and names, with a French vocabulary."""

from __future__ import annotations

from dataclasses import replace

from obert_edge.host.architectures.roberta import ROBERTA

CAMEMBERT = replace(ROBERTA, model_type="camembert", class_prefix="Camembert")
