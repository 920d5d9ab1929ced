"""Task embedding through every stage: a tiny embedder that its dense self teaches."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from obert_edge.errors import CheckpointError, DataError, UsageError
from obert_edge.host.compiler import build
from obert_edge.host.data import load_task
from obert_edge.host.pruning import Pattern
from obert_edge.host.pruning.settings import Distillation, Pruning
from obert_edge.host.stages import compress, evaluate, finetune, prune, quantize
from obert_edge.host.stages.logs import read_log
from obert_edge.host.stages.models import embedder_config
from obert_edge.host.stages.recipe import Recipe, Training
from obert_edge.host.stages.stage import StageRun
from obert_edge.host.stages.stage_trim import _of_prompts

from .conftest import BAD, GOOD, OTHER

TRAINING = Training(max_steps=30, learning_rate=2e-3, batch_size=8, dropout=0.0, warmup=0.1)
ONE_SHOT = Training(max_steps=0)
PRUNING = Pruning(
    sparsity=0.5,
    pattern="2x1",
    gradients=24,
    gradient_batch_size=8,
    block_size=16,
    steps=2,
    initial_sparsity=0.3,
)
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


@pytest.fixture(scope="module")
def embedder(encoder, tmp_path_factory):
    """A random masked-LM encoder as sentence-transformers saves it: pooled without its prompt, normalized."""
    folder = tmp_path_factory.mktemp("embedder") / "model"
    config = BertConfig.from_pretrained(encoder)
    torch.manual_seed(3)
    model = BertForMaskedLM(config)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() == 2:
                value.normal_(0, 0.3)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes((encoder / "tokenizer.json").read_bytes())
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "include_prompt": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "film "}}')
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Lines to train on, and pairs scored by the words that they share."""
    folder = tmp_path_factory.mktemp("texts")
    chance = random.Random(0)
    words = [*GOOD, *BAD, *OTHER]
    lines = [" ".join(chance.choices(words, k=chance.randint(3, 8))) for _ in range(120)]
    (folder / "train.txt").write_text("\n".join(lines))
    rows = ["sentence1\tsentence2\tscore"]
    for shared in range(6):
        for _ in range(5):
            both, left, right = (chance.choices(words, k=k) for k in (shared, 6 - shared, 6 - shared))
            rows.append("\t".join([" ".join(both + left), " ".join(both + right), str(shared)]))
    (folder / "dev.tsv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def pairs(texts):
    return load_task("embedding", texts, prompt_names=["query"])


@pytest.fixture(scope="module")
def pruned(embedder, pairs, tmp_path_factory):
    """The embedder with half of its weights, removed while it learns from itself."""
    folder = tmp_path_factory.mktemp("pruned") / "out"
    prune(embedder, pairs, folder, pruning=PRUNING, training=TRAINING, progress=False)
    return folder


def test_one_shot_keeps_more_of_the_embeddings_than_magnitude(embedder, pairs, tmp_path):
    cosines = {}
    for method in ("obert", "magnitude", "wanda"):
        pruning = Pruning(
            sparsity=0.5, pattern="2x1", method=method, gradients=24, gradient_batch_size=8, block_size=16
        )
        report = prune(embedder, pairs, tmp_path / method, pruning=pruning, training=ONE_SHOT, progress=False)
        assert report.figures.sparsity == pytest.approx(0.5, abs=5e-3)
        cosines[method] = evaluate(tmp_path / method, pairs, against=embedder).metrics["mean_cosine"]
    assert cosines["obert"] > cosines["magnitude"]


def test_gradual_pruning_learns_from_the_model_itself(pruned, embedder, pairs, tmp_path):
    weights = load_file(pruned / "model.safetensors")
    blocks = [value for key, value in weights.items() if key.endswith("query.weight")]
    assert len(blocks) == 2
    assert all(Pattern.parse("2x1").holds(weight) for weight in blocks)
    pruning = Pruning(**{**vars(PRUNING), "channel_permutation": True})
    prune(embedder, pairs, tmp_path / "shot", pruning=pruning, training=ONE_SHOT, progress=False)
    shot, taught = (evaluate(path, pairs, against=embedder).metrics for path in (tmp_path / "shot", pruned))
    assert taught["mean_cosine"] > shot["mean_cosine"]
    for name in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"):
        assert (pruned / name).read_bytes() == (embedder / name).read_bytes()


def test_a_quantized_folder_and_its_bundle_are_scored_alike(pruned, embedder, pairs, tmp_path):
    taught = Distillation(teacher=str(embedder), similarities=2.0, hidden_states=0.1)
    training = Training(**{**vars(TRAINING), "max_steps": 12, "evaluate_steps": 6})
    quantize(pruned, pairs, tmp_path / "qat", training=training, distillation=taught, progress=False)
    bundle = build(tmp_path / "qat", "x86", tmp_path / "model.oeb")
    ours, folder = (evaluate(path, pairs, against=embedder) for path in (bundle, tmp_path / "qat"))
    assert (ours.kind, folder.kind) == ("bundle", "fake-quant")
    assert ours.metrics == pytest.approx(folder.metrics, abs=1.5)
    assert set(ours.metrics) >= {
        "spearman",
        "recall_at_1",
        "mrr",
        "mean_cosine",
        "least_cosine",
        "same_nearest",
    }
    with pytest.raises(CheckpointError, match="has no sequence-classification head") as error:
        evaluate(bundle, load_task("text", _labeled(tmp_path)))
    assert "--task embedding" in error.value.hint
    assert (ours.metric, ours.agreement) == ("spearman", ours.metrics["mean_cosine"])
    rows = read_log(tmp_path / "qat" / "train_log.csv")
    assert float(rows[-1]["metric"]) == pytest.approx(folder.metrics["spearman"], abs=1e-3)


def test_a_float_folder_is_scored_as_its_bundle_encodes(embedder, pairs, tmp_path):
    import obert_edge

    bundle = build(embedder, "x86", tmp_path / "model.oeb", min_cosine=0.0, min_agreement=0.0)
    score = evaluate(bundle, pairs, predictions=tmp_path / "vectors.jsonl", against=embedder)
    assert score.metrics["mean_cosine"] > 95
    rows = [json.loads(line) for line in (tmp_path / "vectors.jsonl").read_text().splitlines()]
    first = pairs.examples("dev")[0].texts[0]
    with obert_edge.load(bundle, threads=1) as session:
        np.testing.assert_allclose(
            session.encode(first, prompt_name="query"), rows[0]["prediction"], atol=1e-6
        )


def test_calibration_and_a_teacher_by_name_work_and_zeros_stay(pruned, embedder, pairs, tmp_path):
    quantize(pruned, pairs, tmp_path / "calibrated", method="calibrate", progress=False)
    taught = Distillation(teacher=str(embedder))
    report = finetune(
        pruned, pairs, tmp_path / "more", training=TRAINING, distillation=taught, progress=False
    )
    assert report.sparsity == pytest.approx(0.5, abs=5e-3)
    assert report.options["distillation"]["teacher"] == str(embedder)


def test_a_recipe_scores_every_stage_beside_the_dense_model(embedder, texts, tmp_path):
    training = {"max_steps": 6, "batch_size": 8}
    recipe = Recipe.from_dict(
        {
            "model": str(embedder),
            "output": str(tmp_path / "run"),
            "task": {"name": "embedding", "data": str(texts)},
            "prune": {
                "sparsity": 0.5, "pattern": "2x1", "gradients": 4, "block_size": 16, "steps": 1,
                "training": training,
            },
            "quantize": {"training": training},
            "build": {"min_cosine": 0.0, "min_agreement": 0.0},
        }
    )  # fmt: skip
    summary = compress(recipe, progress=False)
    assert [score.stage for score in summary.stages] == ["prune", "quantize", "build"]
    assert {score.against for score in summary.stages} == {str(embedder)}
    assert all(score.agreement is not None for score in summary.stages)


def test_texts_alone_are_scored_by_another_model_or_not_at_all(embedder, texts):
    lines = load_task("embedding", texts / "train.txt")
    with pytest.raises(DataError, match="split 'dev' of task 'embedding' holds texts alone"):
        evaluate(embedder, lines)
    score = evaluate(embedder, lines, against=embedder)
    assert score.metric == "mean_cosine"
    assert score.metrics == pytest.approx({"mean_cosine": 100, "least_cosine": 100, "same_nearest": 100})


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda *a: finetune(*a, training=TRAINING), "an embedder learns from a teacher, and there is none"),
        (
            lambda *a: finetune(*a, training=TRAINING, distillation=Distillation()),
            "no teacher is named",
        ),
        (lambda *a: prune(*a, distillation=Distillation(hardness=0.5)), "no labels to mix in"),
        (lambda *a: prune(*a, pruning=Pruning(gradients_of="labels")), "gradients_of is labels"),
        (lambda *a: prune(*a, training=Training(max_length=64)), "has positions for 32 tokens"),
    ],
)
def test_what_cannot_teach_is_refused_before_any_work(embedder, pairs, tmp_path, act, message):
    with pytest.raises(UsageError, match=message):
        act(embedder, pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_models_that_are_no_embedders_are_refused_as_student_and_as_teacher(
    embedder, encoder, pairs, tmp_path
):
    classifier = tmp_path / "classifier"
    BertForSequenceClassification(BertConfig.from_pretrained(encoder)).save_pretrained(classifier)
    (classifier / "tokenizer.json").write_bytes((encoder / "tokenizer.json").read_bytes())
    with pytest.raises(CheckpointError, match="BertForSequenceClassification and no embedder"):
        evaluate(classifier, pairs)
    with pytest.raises(CheckpointError, match="teacher .* is no embedder"):
        prune(embedder, pairs, tmp_path / "out", distillation=Distillation(teacher=str(classifier)))
    with pytest.raises(CheckpointError, match="has no sequence-classification head") as error:
        evaluate(embedder, load_task("text", _labeled(tmp_path)))
    assert "--task mlm" in error.value.hint or "--task embedding" in error.value.hint


def _labeled(folder):
    (folder / "dev.csv").write_text("text,label\nfilm,good\nplot,bad\n")
    return folder / "dev.csv"


def test_a_classifier_is_pruned_without_labels_by_the_gradients_of_its_outputs(dense, texts, tmp_path):
    """Dense is the classifier of the other tests; its data here are lines."""
    task = load_task("text", texts / "train.txt", needs_labels=False)
    pruning = Pruning(**{**vars(PRUNING), "gradients_of": "outputs"})
    report = prune(dense, task, tmp_path / "out", pruning=pruning, training=ONE_SHOT, progress=False)
    assert report.figures.sparsity == pytest.approx(0.5, abs=5e-3)
    assert report.figures.pruning_steps[0]["fisher"]["mean_diagonal"] > 0
    with pytest.raises(DataError, match="learns from labels"):
        prune(dense, task, tmp_path / "no", pruning=PRUNING, training=ONE_SHOT, progress=False)
    with pytest.raises(UsageError, match="method magnitude takes no gradients"):
        pruning = Pruning(method="magnitude", gradients_of="outputs")
        prune(dense, task, tmp_path / "no", pruning=pruning, training=ONE_SHOT, progress=False)


def test_trimming_keeps_the_pieces_of_prompts(embedder, tmp_path):
    run = StageRun("trim", embedder, None, tmp_path, tmp_path)
    assert _of_prompts(run, embedder_config(embedder)) == {run.tokenizer.token_to_id("film")}


def test_a_reranker_on_scored_pairs_is_a_regression(encoder, texts, tmp_path):
    reranker = tmp_path / "reranker"
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(encoder, num_labels=1)
    BertForSequenceClassification(config).save_pretrained(reranker)
    (reranker / "tokenizer.json").write_bytes((encoder / "tokenizer.json").read_bytes())
    settings = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    (reranker / "config_sentence_transformers.json").write_text(json.dumps(settings))
    scored = load_task(
        "text",
        texts / "dev.tsv",
        text_columns=["sentence1", "sentence2"],
        label_column="score",
        problem_type="regression",
    )
    prune(reranker, scored, tmp_path / "pruned", pruning=PRUNING, training=TRAINING, progress=False)
    taught = Distillation(teacher=str(reranker))
    quantize(
        tmp_path / "pruned", scored, tmp_path / "qat", training=TRAINING, distillation=taught, progress=False
    )
    bundle = build(tmp_path / "qat", "x86", tmp_path / "model.oeb", min_cosine=-1, min_agreement=0)
    score = evaluate(bundle, scored, against=tmp_path / "qat")
    assert set(score.metrics) == {"spearman", "pearson"}
