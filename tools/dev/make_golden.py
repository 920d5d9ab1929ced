"""Write tests/golden: a tiny bundle of the current format version and the answers it must give.

    python -m tools.dev.make_golden            # refuses to replace the files of a version that has them
    python -m tools.dev.make_golden --replace

Run it once for every new format version, and never change the files of an old one: they are what bundles in
the field look like. The bundle has every weight format, word embeddings of four bits, static scales, a
function behind the logits, and neither engine nor runner, so it tests the format and the numerics and nothing
else.

Needs: the host's packages, but not torch.
Takes: a second.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from safetensors.numpy import save_file

from obert_edge.bundle.cases import write_cases
from obert_edge.bundle.container import CASES, PROGRAM, WEIGHTS, Bundle, write_bundle
from obert_edge.bundle.manifest import FORMAT_VERSION, LinearFacts
from obert_edge.bundle.program import Linear, WeightFormat
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import read_config
from obert_edge.host.checkpoints.scales import Scales
from obert_edge.host.compiler.build import describe_model
from obert_edge.host.compiler.case_runs import make_cases
from obert_edge.host.compiler.importer import import_graph, result_names
from obert_edge.host.compiler.lowered import LoweredGraph
from obert_edge.host.compiler.passes.first_token import select_first_early
from obert_edge.host.compiler.passes.fuse import fuse
from obert_edge.host.compiler.passes.pack import pack
from obert_edge.host.compiler.passes.plan import plan
from obert_edge.host.compiler.passes.quantize import quantize
from obert_edge.targets import FormatCost, get_target, library_path
from tools import command_line

GOLDEN = Path(__file__).resolve().parent.parent.parent / "tests" / "golden"
CONFIG: Dict[str, Any] = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "id2label": {"0": "no", "1": "yes"},
    "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
}


def write_model(folder: Path) -> None:
    """Write a random sparse classifier, drawn by numpy so that any machine draws the same."""
    generator = np.random.default_rng(1)
    hidden, wide = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    tensors: Dict[str, np.ndarray] = {}

    def linear(name: str, n: int, k: int) -> None:
        keep = generator.random((n, k)) < 0.4
        weight = generator.normal(0, k**-0.5, (n, k)) * keep
        tensors[f"{name}.weight"] = weight.astype(np.float32)
        tensors[f"{name}.bias"] = generator.normal(0, 0.1, n).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = generator.normal(1, 0.1, hidden).astype(np.float32)
        tensors[f"{name}.bias"] = generator.normal(0, 0.1, hidden).astype(np.float32)

    for table, rows in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        values = generator.normal(0, 0.5, (CONFIG[rows], hidden))
        tensors[f"bert.embeddings.{table}_embeddings.weight"] = values.astype(np.float32)
    norm("bert.embeddings.LayerNorm")
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.self.{part}", hidden, hidden)
        linear(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", wide, hidden)
        linear(f"{layer}.output.dense", hidden, wide)
        norm(f"{layer}.output.LayerNorm")
    linear("bert.pooler.dense", hidden, hidden)
    linear("classifier", 2, hidden)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, str(folder / "model.safetensors"))


def ranges() -> Dict[str, Any]:
    """Plausible quantization parameters of every quantizer, as in quantization.json; they never change."""
    quantizers: Dict[str, Any] = {}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            quantizers[f"{layer}.attention.self.{part}:input"] = {"scale": 0.03, "zero_point": 121}
        quantizers[f"{layer}.attention.self:query"] = {"scale": 0.02, "zero_point": 130}
        quantizers[f"{layer}.attention.self:key"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.attention.self:value"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.attention.output.dense:input"] = {"scale": 0.015, "zero_point": 128}
        quantizers[f"{layer}.intermediate.dense:input"] = {"scale": 0.03, "zero_point": 126}
        quantizers[f"{layer}.output.dense:input"] = {"scale": 0.012, "zero_point": 14}
    quantizers["bert.pooler.dense:input"] = {"scale": 0.03, "zero_point": 127}
    quantizers["classifier:input"] = {"scale": 0.008, "zero_point": 125}
    return {
        "format": 3,
        "method": "golden",
        "activations": "static",
        "embeddings": "int4",
        "sites": quantizers,
    }


def pack_in_turn(graph: LoweredGraph) -> Tuple[LoweredGraph, List[LinearFacts]]:
    """Pack the linears so that every format is used: the first in the first format, and so on in turn."""
    packed, formats = LoweredGraph(graph.max_length), list(WeightFormat)
    facts: List[LinearFacts] = []
    for op in graph.ops:
        only = {formats[len(facts) % len(formats)]: FormatCost(0.1, 1.0, 1.0)}
        one, about = pack(LoweredGraph(graph.max_length, [op]), only)
        packed.ops += one.ops
        facts += about
    assert {about.format for about in facts} == {weight_format.name for weight_format in formats}
    return packed, facts


def make(path: Path) -> None:
    """Compile the model, and write the bundle and, beside it, a JSON file with its answers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        checkpoint = Checkpoint.open(folder)
        config = read_config(checkpoint)
        graph = select_first_early(fuse(import_graph(checkpoint, config)))
        scales = Scales.from_mapping(ranges(), "bert.")
        lowered, facts = pack_in_turn(quantize(graph, scales))
        program, weights = plan(lowered)
        target = get_target("x86")
        manifest = describe_model(checkpoint, config, scales, program, result_names(graph), facts, target)
    library = library_path(target)
    cases = make_cases(program, weights, result_names(graph), manifest.model, library)
    members = {PROGRAM: program.to_bytes(), WEIGHTS: bytes(weights), CASES: write_cases(cases)}
    write_bundle(path, manifest, members)
    with Bundle.open(path) as bundle:
        answers = {
            "format_version": manifest.format_version,
            "labels": manifest.task.labels,
            "formats": [WeightFormat(op.format).name for op in bundle.program.ops if isinstance(op, Linear)],
            "cases": [
                {
                    "starts": case.starts.tolist(),
                    "ids": case.ids.tolist(),
                    "token_types": case.token_types.tolist(),
                    "logits": [[value.hex() for value in row] for row in case.outputs["logits"].tolist()],
                }
                for case in bundle.cases
            ],
        }
    path.with_suffix(".json").write_text(json.dumps(answers, indent=1) + "\n")


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Write the golden files, unless they are there."""
    parser = command_line.parser("tools.dev.make_golden", __doc__)
    parser.add_argument("--replace", action="store_true", help="replace the files of the current version")
    options = parser.parse_args(arguments)
    path = GOLDEN / f"v{FORMAT_VERSION}.oeb"
    if path.exists() and not options.replace:
        raise SystemExit(f"{path} exists\n  fix: raise FORMAT_VERSION first, or pass --replace")
    make(path)
    print(f"wrote {path} ({path.stat().st_size} bytes) and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
