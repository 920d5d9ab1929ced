"""Where a model folder came from: the commit in huggingface_hub's cache, and the head of its model card."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

from obert_edge.bundle.manifest import SourceFacts
from obert_edge.files import atomic_file
from obert_edge.host.hub.download import CARD

_log = logging.getLogger(__name__)

#: What a stage writes beside a model that came from a hub; later stages carry it on.
FILE = "source.json"
#: ``.../models--org--name/snapshots/<commit>``, as huggingface_hub lays out its cache.
_CACHED = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: The head of a card, YAML between two lines of dashes.
_HEAD = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
#: More than any head has.
_MOST_CHARACTERS = 1 << 20


def read_source(folder: Path) -> SourceFacts:
    """What is known of a model folder; nothing where nothing is said.

    Args:
        folder: the model folder.
    """
    folder = Path(folder)
    kept = _read_kept(folder / FILE)
    if kept is not None:
        return kept
    # The folder of an older sentence-transformers model has its card beside it.
    roots = [folder, folder.parent] if re.fullmatch(r"\d+_\w+", folder.name) else [folder]
    card = next((root / CARD for root in roots if (root / CARD).is_file()), None)
    facts = facts_of_card({} if card is None else read_head(card))
    for root in roots:
        found = _CACHED.fullmatch(root.parent.parent.name)
        if found and root.parent.name == "snapshots" and _COMMIT.fullmatch(root.name):
            repository = f"{found['owner']}/{found['name']}"
            return dataclasses.replace(facts, repository=repository, commit=root.name)
    return facts


def keep_source(source: Path, folder: Path) -> None:
    """Write what is known of a model's source beside what was made of it, unless it is there already.

    Args:
        source: the model folder that was read.
        folder: the one that was written.
    """
    facts = read_source(source)
    if facts.is_known and not (folder / FILE).exists():
        with atomic_file(folder / FILE) as path:
            path.write_text(json.dumps(dataclasses.asdict(facts), indent=1) + "\n", encoding="utf-8")


def facts_of_card(head: Dict[str, Any]) -> SourceFacts:
    """The facts in the head of a model card; what is no text counts as not said."""
    licenses = _texts(head.get("license"))
    if licenses == ["other"]:
        licenses = _texts(head.get("license_name")) or licenses
    return SourceFacts(
        license=", ".join(licenses),
        base_models=_texts(head.get("base_model")),
        languages=_texts(head.get("language")),
        pipeline_tag=", ".join(_texts(head.get("pipeline_tag"))),
    )


def read_head(card: Path) -> Dict[str, Any]:
    """The YAML at the head of a model card; empty where there is none, or none that can be read."""
    try:
        with card.open(encoding="utf-8", errors="replace") as stream:
            found = _HEAD.match(stream.read(_MOST_CHARACTERS).replace("\r\n", "\n"))
        if found is None:
            return {}
        import yaml

        head = yaml.safe_load(found[1])
    except ModuleNotFoundError:
        _log.warning("%s is not read: yaml is not installed", card)
        return {}
    except Exception as error:  # the card is somebody else's; no model is refused for it
        _log.warning("the head of %s is not read: %s", card, str(error).splitlines()[0])
        return {}
    return head if isinstance(head, dict) else {}


def _texts(value: Any) -> List[str]:
    values = value if isinstance(value, list) else [value]
    # YAML reads Norwegian's `no` as false.
    named = ["no" if item is False else item for item in values]
    return [item.strip()[:200] for item in named if isinstance(item, str) and item.strip()][:200]


def _read_kept(path: Path) -> Optional[SourceFacts]:
    """What an earlier stage wrote; ``None``: nothing that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    texts = {name: content.get(name, "") for name in ("repository", "commit", "license", "pipeline_tag")}
    if not all(isinstance(text, str) for text in texts.values()):
        return None
    bases, languages = (_texts(content.get(name)) for name in ("base_models", "languages"))
    return SourceFacts(base_models=bases, languages=languages, **texts)
