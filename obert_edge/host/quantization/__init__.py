"""Training and evaluating a transformers encoder with the engine's INT8 arithmetic.

Signatures (each documented where it is defined)::

    quantize_model(model, activations="static", embeddings="int8") -> model   # in place; "dynamic"; "int4"
    set_observers(model, "calibrating" | "collecting" | "frozen" | "float")
    QATCallback(activations="static", observe=0.5, embeddings="int8")        # transformers.TrainerCallback
    save_quantized(model, tokenizer, folder, method="qat", overwrite=False)
    load_quantized(folder, model_class=None) -> model             # eval mode, ranges frozen
    apply_scales(model, scales) -> model                          # in place: as the compiler quantizes it
    quantization_record(model, method) -> dict                    # the content of quantization.json
    quantizers(model) -> {quantizer name: ActivationQuantizer}              # names as in quantization.json
    is_quantized(model) -> bool

A typical quantization-aware run::

    callback = QATCallback(activations="static", observe=0.5)
    trainer = Trainer(model, args, train_dataset=..., callbacks=[callback])   # converts the model
    trainer.train()
    save_quantized(model, tokenizer, folder, method="qat")

The numbers computed are those of ``docs/reference/numerics.md``.
"""

from __future__ import annotations

from obert_edge.host.quantization.callback import QATCallback
from obert_edge.host.quantization.checkpoint import (
    apply_scales,
    load_quantized,
    quantization_record,
    save_quantized,
)
from obert_edge.host.quantization.convert import is_quantized, quantize_model, quantizers, set_observers

__all__ = [
    "QATCallback",
    "apply_scales",
    "is_quantized",
    "load_quantized",
    "quantization_record",
    "quantize_model",
    "save_quantized",
    "set_observers",
    "quantizers",
]
