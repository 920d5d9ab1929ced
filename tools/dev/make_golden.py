"""Write tests/golden: a tiny bundle of the current format version and the answers it must give.

    python -m tools.dev.make_golden            # refuses to replace the files of a version that has them
    python -m tools.dev.make_golden --replace

Run it once for every new format version, and never change the files of an old one: they are what bundles in
the field look like. There is one of an MPNet, which has biases of the scores, one of a ModernBERT, which has
rotary positions, gated units and windows, and one of an EuroBERT, which has RMS norms, SiLU and shared heads
of keys (versions 1 and 2: one of a BERT). They have every weight format, word embeddings of four bits, static
scales, a function behind the logits, and neither engine nor runner, so they test the format and the numerics
and nothing else.

Needs: the host's packages, but not torch.
Takes: a second.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

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
    "architectures": ["MPNetForSequenceClassification"],
    "model_type": "mpnet",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "relative_attention_num_buckets": 32,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 1,
    "id2label": {"0": "no", "1": "yes"},
    "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
}
#: The fields in which the ModernBERT differs.
MODERNBERT: Dict[str, Any] = {
    "architectures": ["ModernBertForSequenceClassification"],
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "layer_types": ["full_attention", "sliding_attention"],
    "local_attention": 8,
    "classifier_pooling": "mean",
    "pad_token_id": 0,
}


def write_modernbert(folder: Path) -> None:
    """The same of a ModernBERT, without biases."""
    generator = np.random.default_rng(2)
    hidden, wide = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    tensors: Dict[str, np.ndarray] = {}

    def linear(name: str, n: int, k: int) -> None:
        keep = generator.random((n, k)) < 0.4
        tensors[f"{name}.weight"] = (generator.normal(0, k**-0.5, (n, k)) * keep).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = generator.normal(1, 0.1, hidden).astype(np.float32)

    words = generator.normal(0, 0.5, (CONFIG["vocab_size"], hidden)).astype(np.float32)
    tensors["model.embeddings.tok_embeddings.weight"] = words
    norm("model.embeddings.norm")
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        if i:
            norm(f"{layer}.attn_norm")
        linear(f"{layer}.attn.Wqkv", 3 * hidden, hidden)
        linear(f"{layer}.attn.Wo", hidden, hidden)
        norm(f"{layer}.mlp_norm")
        linear(f"{layer}.mlp.Wi", 2 * wide, hidden)
        linear(f"{layer}.mlp.Wo", hidden, wide)
    norm("model.final_norm")
    linear("head.dense", hidden, hidden)
    norm("head.norm")
    linear("classifier", 2, hidden)
    tensors["classifier.bias"] = generator.normal(0, 0.1, 2).astype(np.float32)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **MODERNBERT}))
    save_file(tensors, str(folder / "model.safetensors"))


def modernbert_ranges() -> Dict[str, Any]:
    """Its quantization parameters."""
    quantizers: Dict[str, Any] = {}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        quantizers[f"{layer}.attn.Wqkv:input"] = {"scale": 0.03, "zero_point": 121}
        quantizers[f"{layer}.attn:query"] = {"scale": 0.02, "zero_point": 130}
        quantizers[f"{layer}.attn:key"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.attn:value"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.attn.Wo:input"] = {"scale": 0.015, "zero_point": 128}
        quantizers[f"{layer}.mlp.Wi:input"] = {"scale": 0.03, "zero_point": 126}
        quantizers[f"{layer}.mlp.Wo:input"] = {"scale": 0.012, "zero_point": 110}
    quantizers["head.dense:input"] = {"scale": 0.03, "zero_point": 127}
    quantizers["classifier:input"] = {"scale": 0.02, "zero_point": 125}
    return {**ranges(), "sites": quantizers}


#: The fields in which the EuroBERT differs.
EUROBERT: Dict[str, Any] = {
    "architectures": ["EuroBertForSequenceClassification"],
    "model_type": "eurobert",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "num_key_value_heads": 1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 250000.0},
    "classifier_pooling": "late",
    "pad_token_id": 0,
}
_EUROBERT_PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def write_eurobert(folder: Path) -> None:
    """The same of an EuroBERT, whose two heads of queries share one of keys."""
    generator = np.random.default_rng(3)
    hidden, wide = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    tensors: Dict[str, np.ndarray] = {}

    def linear(name: str, n: int, k: int) -> None:
        keep = generator.random((n, k)) < 0.4
        tensors[f"{name}.weight"] = (generator.normal(0, k**-0.5, (n, k)) * keep).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = generator.normal(1, 0.1, hidden).astype(np.float32)

    words = generator.normal(0, 0.5, (CONFIG["vocab_size"], hidden)).astype(np.float32)
    tensors["model.embed_tokens.weight"] = words
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        norm(f"{layer}.input_layernorm")
        for part, rows in zip(_EUROBERT_PARTS, (hidden, hidden // 2, hidden // 2)):
            linear(f"{layer}.{part}", rows, hidden)
        linear(f"{layer}.self_attn.o_proj", hidden, hidden)
        norm(f"{layer}.post_attention_layernorm")
        for part in ("gate_proj", "up_proj"):
            linear(f"{layer}.mlp.{part}", wide, hidden)
        linear(f"{layer}.mlp.down_proj", hidden, wide)
    norm("model.norm")
    for name, rows in (("dense", hidden), ("classifier", 2)):
        linear(name, rows, hidden)
        tensors[f"{name}.bias"] = generator.normal(0, 0.1, rows).astype(np.float32)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **EUROBERT}))
    save_file(tensors, str(folder / "model.safetensors"))


def eurobert_ranges() -> Dict[str, Any]:
    """Its quantization parameters."""
    quantizers: Dict[str, Any] = {}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for part in _EUROBERT_PARTS:
            quantizers[f"{layer}.{part}:input"] = {"scale": 0.03, "zero_point": 121}
        quantizers[f"{layer}.self_attn:query"] = {"scale": 0.02, "zero_point": 130}
        quantizers[f"{layer}.self_attn:key"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.self_attn:value"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.self_attn.o_proj:input"] = {"scale": 0.015, "zero_point": 128}
        for part in ("gate_proj", "up_proj"):
            quantizers[f"{layer}.mlp.{part}:input"] = {"scale": 0.03, "zero_point": 126}
        quantizers[f"{layer}.mlp.down_proj:input"] = {"scale": 0.012, "zero_point": 110}
    quantizers["dense:input"] = {"scale": 0.03, "zero_point": 127}
    quantizers["classifier:input"] = {"scale": 0.02, "zero_point": 20}
    return {**ranges(), "sites": quantizers}


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

    for table, rows in (("word", "vocab_size"), ("position", "max_position_embeddings")):
        values = generator.normal(0, 0.5, (CONFIG[rows], hidden))
        tensors[f"mpnet.embeddings.{table}_embeddings.weight"] = values.astype(np.float32)
    norm("mpnet.embeddings.LayerNorm")
    shape = (CONFIG["relative_attention_num_buckets"], CONFIG["num_attention_heads"])
    biases = generator.normal(0, 1, shape).astype(np.float32)
    tensors["mpnet.encoder.relative_attention_bias.weight"] = biases
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"mpnet.encoder.layer.{i}"
        for part in ("q", "k", "v", "o"):
            linear(f"{layer}.attention.attn.{part}", hidden, hidden)
        norm(f"{layer}.attention.LayerNorm")
        linear(f"{layer}.intermediate.dense", wide, hidden)
        linear(f"{layer}.output.dense", hidden, wide)
        norm(f"{layer}.output.LayerNorm")
    linear("classifier.dense", hidden, hidden)
    linear("classifier.out_proj", 2, hidden)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors, str(folder / "model.safetensors"))


def ranges() -> Dict[str, Any]:
    """Plausible quantization parameters of every quantizer, as in quantization.json; they never change."""
    quantizers: Dict[str, Any] = {}
    for i in range(CONFIG["num_hidden_layers"]):
        layer = f"mpnet.encoder.layer.{i}"
        for part in ("q", "k", "v"):
            quantizers[f"{layer}.attention.attn.{part}:input"] = {"scale": 0.03, "zero_point": 121}
        quantizers[f"{layer}.attention.attn:query"] = {"scale": 0.02, "zero_point": 130}
        quantizers[f"{layer}.attention.attn:key"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.attention.attn:value"] = {"scale": 0.02, "zero_point": 0}
        quantizers[f"{layer}.attention.attn.o:input"] = {"scale": 0.015, "zero_point": 128}
        quantizers[f"{layer}.intermediate.dense:input"] = {"scale": 0.03, "zero_point": 126}
        quantizers[f"{layer}.output.dense:input"] = {"scale": 0.012, "zero_point": 14}
    quantizers["classifier.dense:input"] = {"scale": 0.03, "zero_point": 127}
    quantizers["classifier.out_proj:input"] = {"scale": 0.008, "zero_point": 125}
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


def make(path: Path, write: Callable[[Path], None], record: Dict[str, Any], prefix: str) -> None:
    """Compile a model, and write the bundle and, beside it, a JSON file with its answers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        checkpoint = Checkpoint.open(folder)
        config = read_config(checkpoint)
        graph = select_first_early(fuse(import_graph(checkpoint, config)))
        scales = Scales.from_mapping(record, prefix)
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
    for suffix, write, record, prefix in (
        ("", write_model, ranges(), "mpnet."),
        ("-modernbert", write_modernbert, modernbert_ranges(), "model."),
        ("-eurobert", write_eurobert, eurobert_ranges(), "model."),
    ):
        path = GOLDEN / f"v{FORMAT_VERSION}{suffix}.oeb"
        if path.exists() and not options.replace:
            raise SystemExit(f"{path} exists\n  fix: raise FORMAT_VERSION first, or pass --replace")
        make(path, write, record, prefix)
        print(f"wrote {path} ({path.stat().st_size} bytes) and {path.with_suffix('.json').name}")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
