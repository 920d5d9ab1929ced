"""From the model's arrays to answers: one module per task type of the manifest."""

from __future__ import annotations

from obert_edge.device.pipelines.base import Predictor, Runner, create_predictor
from obert_edge.device.pipelines.results import (
    Answer,
    Candidate,
    Classification,
    Embedding,
    Entities,
    Entity,
    Fillings,
    MultiLabel,
    Prediction,
    Regression,
)

__all__ = [
    "Answer",
    "Candidate",
    "Classification",
    "Embedding",
    "Entities",
    "Entity",
    "Fillings",
    "MultiLabel",
    "Prediction",
    "Predictor",
    "Regression",
    "Runner",
    "create_predictor",
]
