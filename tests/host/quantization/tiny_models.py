"""Tiny random encoders of every architecture and head, and batches for them."""

from __future__ import annotations

import torch
import transformers

from obert_edge.host.architectures import ARCHITECTURES as KNOWN
from obert_edge.host.architectures import CLASS_SUFFIXES

#: What the transformers classes of each architecture start with, and what those of each head end in.
ARCHITECTURES = tuple(known.class_prefix for known in KNOWN.values())
#: Every head of every architecture.
MODELS = [(known.class_prefix, CLASS_SUFFIXES[task]) for known in KNOWN.values() for task in known.tasks]
#: The same with static activations, and with dynamic ones a head of each architecture.
QUANTIZED = [
    *((prefix, head, "static") for prefix, head in MODELS),
    *((prefix, "ForTokenClassification", "dynamic") for prefix in ARCHITECTURES),
]
VOCABULARY = 90


def _sizes(class_prefix):
    """The fields of the configuration of a tiny encoder."""
    known = next(known for known in KNOWN.values() if known.class_prefix == class_prefix)
    fields = known.fields
    sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": 66, "pad_token_id": 0}
    sizes |= {fields.hidden: 32, fields.layers: 2, fields.heads: 2, fields.intermediate: 64}
    if fields.embedding != fields.hidden:
        sizes[fields.embedding] = 16
    if known.bottleneck:
        sizes[known.bottleneck.width] = 16
    if known.relative_positions:
        sizes |= {
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
        }
    if known.rotary:
        sizes |= {"local_attention": 8, "bos_token_id": 1, "eos_token_id": 2}
    if fields.key_heads:
        sizes[fields.key_heads] = 1
    if known.positions_after_padding:
        sizes |= {"type_vocab_size": 1, "pad_token_id": 1}
    return sizes


def make_model(architecture="Bert", head="ForSequenceClassification", seed=0, **changes):
    """A model in eval mode whose layers, attention included, all matter to the output."""
    labels = {} if head in ("Model", "ForMaskedLM", "ForQuestionAnswering") else {"num_labels": 3}
    sizes = {**_sizes(architecture), **labels, **changes}
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{architecture}{head}")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm.weight" in name.lower() and hasattr(config, "intra_bottleneck_size"):
                parameter.uniform_(0.3, 0.6)  # nothing else keeps activations from growing
            elif "norm.weight" in name.lower():
                parameter.uniform_(0.7, 1.3)
            elif parameter.dim() == 1:
                parameter.normal_(0, 0.1)
            else:
                parameter.normal_(0, 1.6 * parameter.shape[1] ** -0.5)
        if hasattr(
            config, "trigram_input"
        ):  # the token before padding sees its row, or nothing, as in a bundle
            model.get_input_embeddings().weight[config.pad_token_id] = 0
    return model.eval()


def make_batch(seed=0, sequences=4, tokens=12, padding=True):
    """Ids and a mask; with ``padding``, all sequences but the first are shorter."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (sequences, tokens), generator=generator)
    mask = torch.ones_like(ids)
    if padding:
        for i in range(1, sequences):
            mask[i, int(torch.randint(3, tokens, (), generator=generator)) :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def make_batches(count=3, **options):
    return [make_batch(seed, **options) for seed in range(count)]
