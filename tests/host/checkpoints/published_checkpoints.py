"""Copies of the published sparse BERT checkpoints: their keys, dtypes and files, with tiny shapes.

The names are those of the oBERT README; what their files hold was read from the Hub's file lists. A
quantized one is made the way SparseML made it: torch's eager-mode QAT around every linear, fake
quantization in the embeddings, and wrappers around both attention products.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.ao import quantization as ao
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from obert_edge.device.runtime.session import load
from tests.host.compiler.tiny_checkpoints import make_model

VOCABULARY = 120
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + [f"w{i}" for i in range(VOCABULARY - 5)]
TASKS = {
    "squadv1": "question-answering",
    "mnli": "sequence-classification",
    "qqp": "sequence-classification",
    "mlm": "masked-lm",
}

#: One name of every layout, with 12, 6 and 3 layers.
LAYOUTS = [
    "oBERT-teacher-mnli",
    "oBERT-12-downstream-pruned-unstructured-97-squadv1",
    "oBERT-6-downstream-pruned-block4-80-squadv1",
    "oBERT-3-upstream-pretrained-dense",
    "oBERT-12-upstream-pruned-unstructured-90-finetuned-qqp-v2",
    "oBERT-3-downstream-pruned-block4-90-QAT-squadv1",
]


def obert_names() -> Dict[str, Dict[str, Any]]:
    """The 53 names, each with what its files hold."""
    names: Dict[str, Dict[str, Any]] = {}

    def add(name: str, task: str, layers: int, **content: Any) -> None:
        names[f"oBERT-{name}"] = {"task": task, "layers": layers, **content}

    for task in ("squadv1", "mnli", "qqp"):
        add(f"teacher-{task}", task, 12)
        for percent in (80, 90, 97):
            add(f"12-downstream-pruned-unstructured-{percent}-{task}", task, 12, sparsity=percent, block=1)
    for layers in (12, 6, 3):
        add(f"{layers}-upstream-pretrained-dense", "mlm", layers)
        add(f"{layers}-downstream-dense-squadv1", "squadv1", layers)
        add(f"{layers}-downstream-dense-QAT-squadv1", "squadv1", layers, qat=True)
        for percent in (80, 90):
            block = {"sparsity": percent, "block": 4}
            add(f"{layers}-downstream-pruned-block4-{percent}-squadv1", "squadv1", layers, **block)
            add(
                f"{layers}-downstream-pruned-block4-{percent}-QAT-squadv1",
                "squadv1",
                layers,
                qat=True,
                **block,
            )
            if layers < 12:
                name = f"{layers}-downstream-pruned-unstructured-{percent}-squadv1"
                add(name, "squadv1", layers, sparsity=percent, block=1)
    for percent in (90, 97):
        for version in ("", "-v2"):
            upstream = f"12-upstream-pruned-unstructured-{percent}"
            add(upstream + version, "mlm", 12, sparsity=percent, block=1)
            for task in ("squadv1", "mnli", "qqp"):
                add(f"{upstream}-finetuned-{task}{version}", task, 12, sparsity=percent, block=1)
    return names


def encoder_linears(model: nn.Module) -> List[nn.Linear]:
    """The linears of the encoder's layers, which the published models prune."""
    return [
        module for name, module in model.named_modules() if ".layer." in name and type(module) is nn.Linear
    ]


def prune_smallest(model: nn.Module, percent: int, block: int) -> None:
    """Zeros in blocks of consecutive inputs of an output unit, the smallest first."""
    with torch.no_grad():
        for linear in encoder_linears(model):
            groups = linear.weight.view(-1, block)
            count = int(percent / 100 * len(groups))
            groups[groups.abs().sum(1).argsort()[:count]] = 0.0


def make_published_model(
    task: str, layers: int, *, sparsity: int = 0, block: int = 1, architecture: str = "bert"
) -> nn.Module:
    """A tiny random model with the head of a task of :data:`TASKS`, ``sparsity`` percent of it zeros."""
    labels = {"mnli": 3, "qqp": 2}.get(task, 2)
    model = make_model(
        architecture, TASKS[task], hidden=32, layers=layers, heads=2, num_labels=labels, vocab_size=VOCABULARY
    )
    if sparsity:
        prune_smallest(model, sparsity, block)
    return model


def save_published_model(
    model: nn.Module, folder: Path, *, state: Any = None, kind: str = "pickle", **config: Any
) -> None:
    """Write what the repositories hold: config.json, weights, the tokenizer as vocab.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {**model.config.to_dict(), "architectures": [type(model).__name__], "torch_dtype": "float32"}
    fields.update(transformers_version="4.18.0.dev0", **config)
    (folder / "config.json").write_text(json.dumps(fields))
    tensors = model.state_dict() if state is None else state
    if kind == "safetensors":  # what SFconvertbot's pull requests hold
        whole = {key: value.contiguous().clone() for key, value in tensors.items() if value.numel()}
        save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        new = kind != "legacy pickle"
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (folder / "training_args.bin").write_bytes(b"a pickle that nobody opens")


def with_position_ids(model: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """A state_dict as transformers before 4.31 wrote it: whole-number position ids beside the weights."""
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    prefix = model.base_model_prefix
    state[f"{prefix}.embeddings.position_ids"] = torch.arange(66)[None]
    state.update(model.state_dict())
    return state


# ---- SparseML's quantized model

ACTIVATIONS = ao.FakeQuantize.with_args(
    observer=ao.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8
)
SYMMETRIC = ao.FakeQuantize.with_args(
    observer=ao.MovingAverageMinMaxObserver, dtype=torch.quint8, qscheme=torch.per_tensor_symmetric
)
WEIGHTS = ao.FakeQuantize.with_args(
    observer=ao.MovingAverageMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=torch.qint8,
    qscheme=torch.per_tensor_symmetric,
)


class Stub(nn.Module):
    """A prepared ``QuantStub``."""

    def __init__(self, quantizer: Any) -> None:
        super().__init__()
        self.activation_post_process = quantizer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation_post_process(x)


class MatMulWrapper(nn.Module):
    """SparseML's QATWrapper around its QATMatMul."""

    def __init__(self) -> None:
        super().__init__()
        self.input_quant_stubs = nn.ModuleList([Stub(ACTIVATIONS), Stub(SYMMETRIC)])
        self.output_quant_stubs = nn.ModuleList([Stub(ACTIVATIONS)])

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        stubs = self.input_quant_stubs
        return self.output_quant_stubs[0](torch.matmul(stubs[0](a), stubs[1](b)))


def wrapped_attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> Any:
    """Self-attention on SparseML's wrapped products, as its BERT computes it."""
    scores = module.attention_scores_matmul(query, key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    context = module.context_layer_matmul(scores.softmax(-1), value)
    return context.transpose(1, 2).contiguous(), None


AttentionInterface.register("sparseml_copy", wrapped_attention)
AttentionMaskInterface.register("sparseml_copy", eager_mask)


def quantize_like_sparseml(model: Any, batches: List[Dict[str, torch.Tensor]]) -> Any:
    """Wrap, observe a few batches, and freeze, as a QAT run leaves its model."""
    config = ao.QConfig(activation=nn.Identity, weight=WEIGHTS)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                child.qconfig = config
                wrapper = ao.QuantWrapper(nn.Identity())
                wrapper.quant = Stub(ACTIVATIONS)
                wrapper.module = torch.ao.nn.qat.Linear.from_float(child.train())
                setattr(parent, name, wrapper)
            elif type(child) is nn.Embedding:
                child.weight_fake_quant = ACTIVATIONS()
                child.register_forward_pre_hook(_quantize_table)
                child.register_forward_hook(_restore_table)
    for name, module in list(model.named_modules()):
        if name.endswith("attention.self"):
            module.attention_scores_matmul, module.context_layer_matmul = MatMulWrapper(), MatMulWrapper()
    model.set_attn_implementation("sparseml_copy")
    with torch.no_grad():
        for batch in batches:
            model(**batch)
        model.apply(ao.disable_observer)
    return model.eval()


def _quantize_table(module: Any, inputs: Any) -> None:
    module.float_table = module.weight.data
    module.weight.data = module.weight_fake_quant(module.weight.data)


def _restore_table(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    kept = output.clone()
    module.weight.data = module.float_table
    return kept


def make_batches(count: int = 3, tokens: int = 24) -> List[Dict[str, torch.Tensor]]:
    """Batches of four sequences of random ids; always the same."""
    generator = torch.Generator().manual_seed(3)
    return [
        {"input_ids": torch.randint(5, VOCABULARY, (4, tokens), generator=generator)} for _ in range(count)
    ]


def make_published_folder(name: str, folder: Path, kind: str = "pickle") -> Any:
    """The folder of a published name; returns the model as torch runs it."""
    content = dict(obert_names()[name])
    qat = content.pop("qat", False)
    model = make_published_model(**content)
    if qat:
        model = quantize_like_sparseml(model, make_batches())
        save_published_model(model, folder, kind=kind)
    else:
        save_published_model(model, folder, state=with_position_ids(model), kind=kind)
    return model


def model_answers(model: Any) -> Dict[str, np.ndarray]:
    """The logits of a torch model on one batch, by name."""
    with torch.no_grad():
        output = model(**make_batches(1)[0])
    return {key: value.numpy() for key, value in output.items() if key.endswith("logits")}


def bundle_answers(path: Path) -> Dict[str, np.ndarray]:
    """The outputs of a bundle on the same batch."""
    with load(path, threads=1) as session:
        return session.run(input_ids=make_batches(1)[0]["input_ids"].numpy())


def check_close(found: Dict[str, np.ndarray], expected: Dict[str, np.ndarray], correlation: float) -> None:
    """Every output of one is there in the other, and they are correlated at least so much."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert np.corrcoef(found[key].ravel(), value.ravel())[0, 1] > correlation
