"""What a bundle and the checkpoint it was built from answer to the same tokens; ranges to build it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch

from obert_edge.bundle import Bundle
from obert_edge.bundle.container import PROGRAM
from obert_edge.device.runtime.batching import case_positions
from obert_edge.device.runtime.native import Library, PackedBatch
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.compiler.importer import import_graph
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.targets import get_target, library_path
from tests.host.compiler.naive_ranges import naive_ranges

SAMPLES = [np.random.default_rng(seed).integers(5, 120, 24).tolist() for seed in range(4)]
IDS = np.random.default_rng(9).integers(5, 120, 24).astype(np.int32)


def ranges_of(folder: Path, activations: str = "static", task: str | None = None) -> Dict[str, Any]:
    """Ranges of the model in a folder, found on a few random sequences without torch."""
    checkpoint = Checkpoint.open(folder)
    graph = fuse(import_graph(checkpoint, read_config(checkpoint, task)))
    return naive_ranges(graph, SAMPLES, activations)


def bundle_answers(bundle: Bundle, ids: np.ndarray = IDS) -> Dict[str, np.ndarray]:
    """The outputs of a bundle on one sequence, by name, from the scalar kernels."""
    starts = np.array([0, len(ids)], np.int32)
    library = Library(library_path(get_target("x86")))
    batch = PackedBatch(starts, ids, case_positions(library, bundle.manifest.model, starts))
    with library.open(bytes(bundle.member(PROGRAM)), bundle.weights, implementation="scalar") as model:
        return dict(zip([output.name for output in bundle.manifest.outputs], model.run(batch)))


def model_answers(model: torch.nn.Module, names: List[str]) -> Dict[str, np.ndarray]:
    """The same outputs of the float model."""
    with torch.no_grad():
        outputs = model(input_ids=torch.tensor(IDS[None].astype(np.int64)))
    found = {}
    for name in names:
        value = outputs.last_hidden_state.mean(1) if name == "sentence_embedding" else getattr(outputs, name)
        found[name] = value.numpy()
    return found


def check_answers_alike(model: torch.nn.Module, path: Path) -> None:
    """8-bit arithmetic on a random model: every output follows the float one closely."""
    with Bundle.open(path, verify="full") as bundle:
        found = bundle_answers(bundle)
    for name, expected in model_answers(model, list(found)).items():
        value = found[name].reshape(expected.shape)
        assert np.corrcoef(value.ravel(), expected.ravel())[0, 1] > 0.995
        assert abs(value - expected).max() < 0.1 * np.ptp(expected)
