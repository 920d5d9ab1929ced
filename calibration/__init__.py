"""Calibration: the ranges of activations found by running texts through a model, without training.

Signatures (each documented where it is defined)::

    calibrate(model, batches, observer="mse", activations="static", embeddings="int8") -> model
        # in place; observer "minmax" | "percentile" | "mse"; activations "static" | "dynamic" | "auto";
        # embeddings "int8" | "int4"
        # batches: iterable of dicts of tensors (input_ids, attention_mask, ...), labels ignored
    choose_per_token(model, batches) -> names    # of a calibrated model; activations "auto" do it last
    equalize(model, batches) -> {name: parameter that changed}    # in place; calibrate does it first
    inputs_of(model, batch) -> (arguments, which tokens are real)
    calibration_batches(texts, tokenizer, batch_size=8, max_length=128, limit=256) -> list of batches
        # texts: iterable of str or (str, str) pairs
    read_texts(file, columns=None, limit=256) -> list of str or (str, str)      # .txt .jsonl .tsv .csv
    sensitivity(model, batches) -> list of LayerError      # model: a calibrated one; largest error first

A calibrated model is saved with ``obert_edge.host.quantization.save_quantized(..., method="calibrate")``.
"""

from __future__ import annotations

from obert_edge.calibration.activations import choose_per_token
from obert_edge.calibration.calibrate import calibrate
from obert_edge.calibration.equalize import equalize
from obert_edge.calibration.inputs import inputs_of
from obert_edge.calibration.observers import (
    MinMaxObserver,
    MovingAverageObserver,
    MSEObserver,
    Observer,
    PercentileObserver,
    make_observer,
)
from obert_edge.calibration.sensitivity import LayerError, sensitivity
from obert_edge.calibration.sets import calibration_batches, read_texts

__all__ = [
    "LayerError",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageObserver",
    "Observer",
    "PercentileObserver",
    "calibrate",
    "calibration_batches",
    "choose_per_token",
    "equalize",
    "inputs_of",
    "make_observer",
    "read_texts",
    "sensitivity",
]
