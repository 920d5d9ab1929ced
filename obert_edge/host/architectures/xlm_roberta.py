"""XLM-RoBERTa (Conneau et al. 2019): RoBERTa's graph and names, with a vocabulary of a hundred languages."""

from __future__ import annotations

from dataclasses import replace

from obert_edge.host.architectures.roberta import ROBERTA

XLM_ROBERTA = replace(ROBERTA, model_type="xlm-roberta", class_prefix="XLMRoberta")
