"""In words what a ``tokenizer.json`` says and what transformers makes of it, where that is not the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Dict, List, Optional

#: Tokens that a message names.
_NAMED = 5
#: Characters of a value that a message shows.
_SHOWN = 60
#: Parts of a model with an entry per piece, which are counted, not listed.
_TABLES = ("vocab", "merges")


def differences(given: Mapping[str, Any], made: Mapping[str, Any]) -> List[str]:
    """What is not the same in two tokenizers, a line each; empty: they cut every text alike.

    Args:
        given: the parts of the file's tokenizer by name; ``added tokens`` is a list of tokens with their ids.
        made: those of the tokenizer that transformers makes.
    """
    found: List[str] = []
    for name, ours in given.items():
        theirs = made[name]
        if ours == theirs:
            continue
        if name == "added tokens":
            found += _of_added(ours, theirs)
        else:
            found += _of_values(name, ours, theirs)
    return found


def _of_added(given: List[Dict[str, Any]], made: List[Dict[str, Any]]) -> List[str]:
    ours, theirs = ({token["id"]: token for token in tokens} for tokens in (given, made))
    found: List[str] = []
    more = [token["content"] for id_, token in theirs.items() if id_ not in ours]
    if more:
        found.append(
            f"transformers finds {_listed(more)} in a text as one token, and the file cuts it like words"
        )
    fewer = [token["content"] for id_, token in ours.items() if id_ not in theirs]
    if fewer:
        found.append(
            f"the file finds {_listed(fewer)} in a text as one token, and transformers cuts it like words"
        )
    for id_ in ours:
        if id_ in theirs:
            found += _of_values(f"added token {id_}", ours[id_], theirs[id_])
    return found or ["the added tokens stand in another order"]


def _of_values(name: str, ours: Any, theirs: Any) -> List[str]:
    """The innermost fields in which two values differ."""
    if ours == theirs:
        return []
    if name.rpartition(" ")[2] in _TABLES:
        return [_of_tables(name, ours, theirs)]
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.get("type") == theirs.get("type"):
        fields = [*ours, *(field for field in theirs if field not in ours)]
        return [
            line
            for field in fields
            for line in _of_values(f"{name} {field}", ours.get(field), theirs.get(field))
        ]
    return [f"{name} is {_short(ours)} in the file and {_short(theirs)} in transformers"]


def _of_tables(name: str, ours: Any, theirs: Any) -> str:
    pairs = [list(one.items()) if isinstance(one, dict) else list(one or ()) for one in (ours, theirs)]
    first = next((entry for entry in pairs[0] if entry not in pairs[1]), None)
    also = "" if first is None else f", and {_short(first)} of the file is not among them"
    return f"{name} has {len(pairs[0])} entries in the file and {len(pairs[1])} in transformers{also}"


def _listed(tokens: List[str]) -> str:
    more = f" and {len(tokens) - _NAMED} more" if len(tokens) > _NAMED else ""
    return ", ".join(tokens[:_NAMED]) + more


def _short(value: Optional[Any]) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict) and "type" in value:
        return f"a {value['type']}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
