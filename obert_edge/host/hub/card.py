"""The model card of a bundle: what its manifest says, for people and for a hub, and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, List

from obert_edge.bundle.container import Bundle
from obert_edge.bundle.manifest import Manifest
from obert_edge.files import atomic_file, check_file

_log = logging.getLogger(__name__)

#: A card with this line is ours to write anew.
MARK = "<!-- Written by obert-edge, and anew by every build. Without this line it stays as it is. -->"
#: What a hub calls the tasks of bundles, where the model's own card names none.
_PIPELINE_TAGS = {
    "sequence-classification": "text-classification",
    "question-answering": "question-answering",
    "token-classification": "token-classification",
    "masked-lm": "fill-mask",
    "encoder": "feature-extraction",
}
_WORDS = {
    "sequence-classification": "classifies texts",
    "question-answering": "finds the answer to a question in a text",
    "token-classification": "finds entities in texts",
    "masked-lm": "fills in masked words",
    "encoder": "makes embeddings of texts",
}
_SHOWN_LABELS = 20


def card_path(bundle: Path) -> Path:
    """Where the card of a bundle goes: beside it, its name with ``.md`` behind."""
    return bundle.with_name(bundle.name + ".md")


def check_card(bundle: Path) -> None:
    """Refuse a card that could not be written, before its bundle is built.

    Raises:
        ObertEdgeError: as :func:`obert_edge.files.check_file`.
    """
    check_file(card_path(bundle))


def write_card(bundle: Path) -> Path:
    """Write the card of a bundle beside it, unless somebody's own text is there.

    Args:
        bundle: the file.

    Returns:
        Where the card is.

    Raises:
        BundleError: it is no bundle.
        ObertEdgeError: the card cannot be written.
    """
    target = card_path(bundle)
    if target.exists() and not is_ours(target):
        _log.warning("%s is not written by obert-edge and stays as it is", target)
        return target
    text = card_text(bundle)
    with atomic_file(target) as path:
        path.write_text(text, encoding="utf-8")
    return target


def is_ours(card: Path) -> bool:
    """Whether a card was written here and not edited to stay."""
    try:
        return MARK in card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def card_text(path: Path) -> str:
    """The card of a bundle, with a head as a hub reads it.

    Raises:
        BundleError: it is no bundle.
    """
    with Bundle.open(path, "header") as bundle:
        manifest = bundle.manifest
        size = path.stat().st_size
    import yaml

    head = yaml.safe_dump(_head(manifest), sort_keys=False, allow_unicode=True, default_flow_style=False)
    return "\n".join(["---", head.rstrip(), "---", MARK, "", *_body(manifest, path.name, size), ""])


def _head(manifest: Manifest) -> Dict[str, Any]:
    source = manifest.source
    bases = [source.repository] if source.repository else source.base_models
    tags = [
        "obert-edge",
        manifest.model.architecture,
        "int8",
        *(["sparse"] if manifest.sparsity >= 0.01 else []),
    ]
    head: Dict[str, Any] = {
        "library_name": "obert-edge",
        "license": source.license.split(", ") if ", " in source.license else source.license,
        "base_model": bases[0] if len(bases) == 1 else bases,
        "base_model_relation": "quantized" if bases else "",
        "language": source.languages[0] if len(source.languages) == 1 else source.languages,
        "pipeline_tag": source.pipeline_tag or _PIPELINE_TAGS[manifest.task.type],
        "tags": tags,
    }
    return {key: value for key, value in head.items() if value}


def _body(manifest: Manifest, name: str, size: int) -> List[str]:
    source, model = manifest.source, manifest.model
    title = source.repository.split("/")[-1] or model.class_name
    rows = [
        ("file", f"`{name}`, {size / 1e6:.1f} MB, the engine included"),
        ("target", f"`{manifest.target}`"),
        ("made from", _origin(manifest)),
        ("license", source.license or "the model's card names none"),
        (
            "encoder",
            f"{model.class_name}, {model.layers} layers, {model.hidden} channels, {model.heads} heads",
        ),
        ("longest text", f"{model.max_length} tokens"),
        (
            "zeros",
            f"{100 * manifest.encoder_sparsity:.1f} % of the weights of the encoder layers' linears, which "
            f"pruning counts; {100 * manifest.sparsity:.1f} % with those of pooler and head",
        ),
        ("weights", _formats(manifest)),
        (
            "quantization",
            f"{manifest.quantization.method}, INT8 weights, {manifest.quantization.activations} activations, "
            f"{manifest.quantization.embeddings} word embeddings",
        ),
        ("measured by the build", manifest.quality.summary),
        *([("signed by", f"`{manifest.signature.key}`")] if manifest.signature.key else []),
    ]
    lines = [
        f"# {_cell(title)}, compressed with obert-edge",
        "",
        f"A bundle that {_WORDS[manifest.task.type]} on a CPU, with Python and numpy alone.",
        "",
        "| what | value |",
        "|---|---|",
        *(f"| {what} | {_cell(value)} |" for what, value in rows),
    ]
    labels = manifest.task.labels
    if labels:
        shown = ", ".join(f"`{_cell(label)}`" for label in labels[:_SHOWN_LABELS])
        more = f" and {len(labels) - _SHOWN_LABELS} more" if len(labels) > _SHOWN_LABELS else ""
        lines += ["", f"Labels: {shown}{more}."]
    lines += [
        "",
        "A build does not measure how good the answers are on a task.",
        "It compares them with those of the model it was made from, on a few texts.",
        "",
        "## Run it",
        "",
        "```bash",
        f"python3 {name} verify",
        f"python3 {name} run {_question(manifest)}",
        "```",
        "",
        "```python",
        "import obert_edge",
        "",
        f'with obert_edge.load("{name}") as session:',
        f"    print({_call(manifest)})",
        "```",
    ]
    return lines


def _origin(manifest: Manifest) -> str:
    source = manifest.source
    if source.repository:
        return f"`{source.repository}` at commit `{source.commit}`"
    return "a folder" + (
        f" of a model based on {', '.join(source.base_models)}" if source.base_models else ""
    )


def _formats(manifest: Manifest) -> str:
    counts: Dict[str, int] = {}
    for linear in manifest.linears:
        counts[linear.format.lower()] = counts.get(linear.format.lower(), 0) + 1
    return ", ".join(f"{count} linears {name}" for name, count in sorted(counts.items())) or "no linears"


def _question(manifest: Manifest) -> str:
    return '"Where is it?" "It is here."' if manifest.task.type == "question-answering" else '"A text."'


def _call(manifest: Manifest) -> str:
    if manifest.task.type == "encoder":
        return 'session.encode(["A text.", "Another."])'
    if manifest.task.type == "question-answering":
        return 'session.predict(("Where is it?", "It is here."))'
    return 'session.predict("A text.")'


def _cell(text: str) -> str:
    """Text in a cell of a table: what would end the cell, or begin HTML, is spelled out."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain.replace("|", "\\|").replace("<", "&lt;")
