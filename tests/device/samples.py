"""Bundles of tiny random models, with a float oracle of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import torch

import obert_edge
from obert_edge.calibration import equalize
from obert_edge.device.export.dense import DenseModel, read_dense_model
from obert_edge.host.architectures import ARCHITECTURES
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.compiler.build import build
from obert_edge.host.compiler.texts import calibration_batches
from tests.host.compiler.tiny_checkpoints import save_model

BATCH, SEQUENCE, REAL = 2, 24, 17  # the second sequence has REAL tokens, the rest is padding
PAD = {known.model_type: 1 for known in ARCHITECTURES.values() if known.positions_after_padding}

torch.set_num_threads(1)


def round_trip(weights: torch.Tensor) -> torch.Tensor:
    """Per row to INT8 and back, by the rule of docs/reference/numerics.md."""
    scale = weights.abs().amax(dim=1, keepdim=True) / 127
    scale[scale == 0] = 1
    return torch.clamp(torch.round(weights / scale), -127, 127) * scale


@dataclass
class Sample:
    """A bundle, what it was made from, and inputs that include padding."""

    bundle: Path
    torch_model: torch.nn.Module
    inputs: Tuple[np.ndarray, np.ndarray, np.ndarray]

    @property
    def model(self) -> DenseModel:
        return read_dense_model(self.bundle)

    def real(self, results: List[np.ndarray]) -> List[np.ndarray]:
        """Results as rows [.., channels] of real tokens or of sequences."""
        mask = self.inputs[1].astype(bool)
        return [result[mask] if result.ndim == 3 else result for result in results]

    def engine(self) -> List[np.ndarray]:
        ids, mask, types = self.inputs
        with obert_edge.load(str(self.bundle), threads=1) as session:
            values = session.run(input_ids=ids, attention_mask=mask, token_type_ids=types).values()
        return self.real([value[..., None] if value.shape == ids.shape else value for value in values])

    def oracle(self) -> List[np.ndarray]:
        """transformers' own model with weights that went through INT8 and activations that did not."""
        ids, mask, types = (torch.from_numpy(array) for array in self.inputs)
        arguments = {"input_ids": ids, "attention_mask": mask}
        if hasattr(self.torch_model.config, "type_vocab_size"):
            arguments["token_type_ids"] = types
        head = getattr(getattr(self.torch_model, "cls", None), "predictions", None)
        joined = None
        if hasattr(head, "dense"):  # MobileBERT's decoder has the columns of two linears
            joined = round_trip(torch.cat([head.decoder.weight, head.dense.weight.t()], 1).data)
        with torch.no_grad():
            for name, module in self.torch_model.named_modules():
                if isinstance(module, (torch.nn.Linear, torch.nn.Embedding)) and "bias" not in name:
                    module.weight.data = round_trip(module.weight.data)
            if joined is not None:
                width = head.decoder.weight.shape[1]
                head.decoder.weight = torch.nn.Parameter(joined[:, :width])  # no longer that of the words
                head.dense.weight.data = joined[:, width:].t()
            outputs = self.torch_model(**arguments)
        names = ("logits", "start_logits", "end_logits")
        found = [outputs[name].numpy() for name in names if name in outputs]
        return self.real([value[..., None] if value.shape == ids.shape else value for value in found])


def make_sample(folder: Path, architecture: str, task: str, **options: Any) -> Sample:
    """Build the bundle of a random model of two layers in ``folder``, with inputs for it."""
    model = save_model(folder, architecture, task, layers=2, **options)
    bundle = build(folder, "x86", folder / "model.oeb")
    checkpoint = Checkpoint.open(folder)
    equalize(model, calibration_batches(checkpoint, read_config(checkpoint), None))  # as the build does
    random = np.random.default_rng(0)
    ids = random.integers(10, 120, (BATCH, SEQUENCE))
    mask = np.ones_like(ids)
    ids[1, REAL:], mask[1, REAL:] = PAD.get(architecture, 0), 0
    has_types = getattr(model.config, "type_vocab_size", 1) > 1
    types = random.integers(0, 2, ids.shape) if has_types else ids * 0
    return Sample(bundle, model, (ids, mask, types))
