"""The embedding of a text in torch: pooling and the modules behind it, as the device wing has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

import torch
from torch import Tensor, nn

from obert_edge.bundle.manifest import ModuleFacts
from obert_edge.device.pipelines.modules import Modules
from obert_edge.host.checkpoints.checkpoint import Checkpoint
from obert_edge.host.checkpoints.model_config import ModelConfig, read_config

#: Key of a batch: int64 [texts], the tokens at the start of each that are not pooled.
PROMPT_TOKENS = "prompt_tokens"
#: Similarities that do not depend on the lengths of vectors.
_OF_DIRECTIONS = ("", "cosine")


class SentenceEmbedding:
    """Embeddings from the outputs of an encoder, differentiable; the modules' own weights are constants.

    Args:
        config: of the model folder, read as an encoder's.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        modules = Modules.read(config.modules, config.sentence.weight_bytes)
        self._steps = [
            (facts, [torch.from_numpy(weight).float() for weight in weights])
            for facts, weights in zip(modules.facts, modules.weights)
        ]

    @classmethod
    def of(cls, folder: Path) -> SentenceEmbedding:
        """That of a model folder.

        Raises:
            CheckpointError: the folder is no encoder, or has a module that is not supported.
        """
        return cls(read_config(Checkpoint.open(Path(folder)), task="encoder"))

    @property
    def include_prompt(self) -> bool:
        """Whether the tokens of a prompt are pooled."""
        return self.config.sentence.include_prompt

    def __call__(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        """The embeddings that the whole model gives.

        Args:
            outputs: of the transformers encoder, with ``last_hidden_state`` float [texts, tokens, channels].
            batch: its inputs; ``attention_mask`` [texts, tokens], padding at the end, and
                :data:`PROMPT_TOKENS` where a prompt is not pooled.

        Returns:
            Float [texts, channels], divided by their lengths where the model does so.
        """
        vectors = self._pooled(outputs, batch)
        for facts, weights in self._steps:
            if facts.type != "pooling":
                placed = [weight.to(vectors.device) for weight in weights]
                vectors = _STEPS[facts.type](facts, placed, vectors)
        sentence = self.config.sentence
        if sentence.normalize:
            vectors = nn.functional.normalize(vectors, dim=-1)
        return vectors[:, : sentence.truncate_dim or None]

    def compared(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        """The embeddings as they are compared: of length 1 where only their directions count."""
        vectors = self(outputs, batch)
        if self.config.sentence.similarity in _OF_DIRECTIONS:
            vectors = nn.functional.normalize(vectors, dim=-1)
        return vectors

    def _pooled(self, outputs: Any, batch: Mapping[str, Any]) -> Tensor:
        if self.config.pooling == "pooler":
            pooled: Tensor = outputs.pooler_output.float()
            return pooled
        tokens, mask = outputs.last_hidden_state.float(), batch["attention_mask"].bool()
        modes: Sequence[str] = [self.config.pooling]
        if not self.config.pooling:
            modes = self.config.modules[0].modes
        places = torch.arange(mask.shape[1], device=mask.device)
        skipped = torch.zeros(len(mask), dtype=torch.long, device=mask.device)
        if not self.include_prompt and PROMPT_TOKENS in batch:
            skipped = batch[PROMPT_TOKENS].to(mask.device)
            mask = mask & (places >= skipped[:, None])
        return torch.cat([_POOLINGS[mode](tokens, mask, skipped) for mode in modes], dim=-1)


def _dense(facts: ModuleFacts, weights: List[Tensor], vectors: Tensor) -> Tensor:
    sums = vectors @ weights[0].T
    if facts.bias:
        sums = sums + weights[1]
    result = _ACTIVATIONS[facts.activation](sums)
    if facts.residual:
        result = result + (vectors if facts.inputs == facts.outputs else vectors @ weights[-1].T)
    return result


def _layer_norm(facts: ModuleFacts, weights: List[Tensor], vectors: Tensor) -> Tensor:
    return nn.functional.layer_norm(vectors, vectors.shape[-1:], weights[0], weights[1], facts.epsilon)


def _normalize(facts: ModuleFacts, weights: List[Tensor], vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors, dim=-1)


_STEPS: Dict[str, Callable[[ModuleFacts, List[Tensor], Tensor], Tensor]] = {
    "dense": _dense,
    "layer_norm": _layer_norm,
    "normalize": _normalize,
}
_ACTIVATIONS: Dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda values: values,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
    "sigmoid": torch.sigmoid,
    "silu": nn.functional.silu,
}


def _sum(tokens: Tensor, mask: Tensor) -> Tensor:
    return (tokens * mask.unsqueeze(-1)).sum(dim=1)


def _count(mask: Tensor) -> Tensor:
    return mask.sum(dim=1, keepdim=True).clamp_min(1).float()


def _weighted_mean(tokens: Tensor, mask: Tensor, skipped: Tensor) -> Tensor:
    # A token's weight is its place in the text, the prompt counted.
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
    return (tokens * places.unsqueeze(-1)).sum(dim=1) / places.sum(dim=1, keepdim=True).clamp_min(1)


def _last(tokens: Tensor, mask: Tensor, skipped: Tensor) -> Tensor:
    last = (torch.arange(mask.shape[1], device=mask.device) * mask).argmax(dim=1)
    return tokens[torch.arange(len(tokens), device=tokens.device), last]


#: Pooling mode -> the function of tokens [n, tokens, channels], the mask of those that count, and how many at
#: the start do not.
_POOLINGS: Dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cls": lambda tokens, mask, skipped: tokens[
        torch.arange(len(tokens), device=tokens.device), skipped.clamp_max(tokens.shape[1] - 1)
    ],
    "max": lambda tokens, mask, skipped: (
        tokens.masked_fill(~mask.unsqueeze(-1), torch.finfo(tokens.dtype).min).max(dim=1).values
    ),
    "mean": lambda tokens, mask, skipped: _sum(tokens, mask) / _count(mask),
    "mean_sqrt_len_tokens": lambda tokens, mask, skipped: _sum(tokens, mask) / _count(mask).sqrt(),
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
