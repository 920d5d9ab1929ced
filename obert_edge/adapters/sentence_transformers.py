"""A bundle as the only module of a ``SentenceTransformer``, whose ``encode`` and evaluators go on working.

    from sentence_transformers import SentenceTransformer
    from obert_edge.adapters.sentence_transformers import BundleModule

    model = SentenceTransformer(modules=[BundleModule("model.oeb")])

Prompts, similarity and truncation are the bundle's, where the model is not told others.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from obert_edge.adapters.opening import BundleLike, Opened, dimension
from obert_edge.bundle.signature import Key
from obert_edge.device.runtime.session import Session
from obert_edge.errors import CheckpointError, UsageError
from obert_edge.packages import imports_for

with imports_for("this adapter"):
    import torch
    from sentence_transformers.base.modules import InputModule

#: What the bundle is called in a folder of a model.
_FILE = "model.oeb"
#: More numbers than an embedding has: nothing is cut off.
_ALL = 1 << 20


class BundleModule(InputModule):
    """Texts to embeddings by a bundle; it has no parameters, and cannot be trained.

    Args:
        bundle: the file of an encoder, or a session that has it open.
        threads: as for :func:`obert_edge.load`.
        trusted_keys: the same.

    Raises:
        UsageError: the bundle makes no embeddings.
        ObertEdgeError: as :func:`obert_edge.load`.
    """

    save_in_root = True

    def __init__(
        self,
        bundle: BundleLike,
        threads: Optional[int] = None,
        trusted_keys: Optional[Sequence[Key]] = None,
    ) -> None:
        super().__init__()
        self._opened = Opened(bundle, threads, trusted_keys)
        self._dimension = dimension(self.session, truncate_dim=_ALL)

    @property
    def session(self) -> Session:
        """The session that computes."""
        return self._opened.session

    @property
    def tokenizer(self) -> Any:
        """The bundle's own tokenizer."""
        return self.session.tokenizer

    @property
    def max_seq_length(self) -> int:
        """Tokens that texts are cut to."""
        return self.session.manifest.model.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        if value != self.max_seq_length:
            raise UsageError(
                f"max_seq_length = {value!r}, and the bundle takes {self.max_seq_length} tokens, which is "
                "fixed when it is built",
                hint="build the bundle with --max-length",
            )

    def get_embedding_dimension(self) -> int:
        """How many numbers an embedding has before it is truncated."""
        return self._dimension

    def get_config_dict(self) -> Dict[str, Any]:
        """What the module shows of itself."""
        return {"bundle": str(self._opened.path)}

    def on_model_ready(self, model: Any) -> None:
        """Give the model the bundle's prompts, similarity and truncation, where it has none of its own."""
        task = self.session.manifest.task
        for name, prompt in task.prompts.items():
            if not model.prompts.get(name):
                model.prompts[name] = prompt
        if model.default_prompt_name is None:
            model.default_prompt_name = task.default_prompt_name or None
        # The public property would set a default by being asked.
        if getattr(model, "_similarity_fn_name", None) is None:
            model.similarity_fn_name = task.similarity or "cosine"
        if getattr(model, "truncate_dim", None) is None:
            model.truncate_dim = task.truncate_dim or None

    def preprocess(
        self, inputs: Sequence[Any], prompt: Optional[str] = None, **options: Any
    ) -> Dict[str, Any]:
        """The texts as they are: the bundle has its own tokenizer."""
        return {"texts": list(inputs), "prompt": prompt or ""}

    def forward(self, features: Dict[str, Any], **options: Any) -> Dict[str, Any]:
        """Add ``sentence_embedding``, float32 ``[texts, channels]``."""
        texts: List[Any] = features["texts"]
        vectors = self.session.encode(
            texts, prompt=features["prompt"], truncate_dim=_ALL, batch_size=max(1, len(texts))
        )
        features["sentence_embedding"] = torch.from_numpy(vectors)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Copy the bundle into the folder of the model."""
        target = Path(output_path) / _FILE
        if target.resolve() != self._opened.path.resolve():
            shutil.copyfile(self._opened.path, target)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        model_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> BundleModule:
        """Open the bundle in the folder of a model, or in a repository of the hub.

        Args:
            model_name_or_path: the folder, or the repository's name.
            subfolder: where in it.
            model_kwargs: ``threads`` and ``trusted_keys`` of the module are taken from it.
            **kwargs: how the hub is asked, as sentence-transformers passes it.

        Raises:
            CheckpointError: there is no bundle.
        """
        asked = ("token", "cache_folder", "revision", "local_files_only")
        where = {name: kwargs[name] for name in asked if name in kwargs}
        path = cls.load_file_path(model_name_or_path, filename=_FILE, subfolder=subfolder, **where)
        if path is None:
            raise CheckpointError(
                f"{model_name_or_path} has no {_FILE}", hint="save the model again with save_pretrained"
            )
        told = model_kwargs or {}
        return cls(path, threads=told.get("threads"), trusted_keys=told.get("trusted_keys"))
