"""Fields of a parsed ``tokenizer.json``, of the types that the ``tokenizers`` library takes and no others.

A value of another type would be found out in the midst of a text, far from the file that holds it.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

#: Stands for "the field must be there".
_NEEDED: Any = object()
#: Ids and lengths of a ``tokenizer.json`` are whole numbers below this.
_ID_LIMIT = 1 << 32


def _field(part: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = part.get(name, default)
    if value is _NEEDED:
        raise KeyError(name)
    if type(value) is not kind and value is not default:
        raise ValueError(f"{name} is {str(value)[:60]!r}; expected {kind.__name__}")
    return value


def text_field(part: Mapping[str, Any], name: str, default: Any = _NEEDED) -> Any:
    """A text, or the default where there is none.

    Raises:
        KeyError: it is missing, and there is no default.
        ValueError: it is something else.
    """
    return _field(part, name, str, default)


def one_character(part: Mapping[str, Any], name: str) -> str:
    """A text of one character; errors as :func:`text_field`."""
    value: str = text_field(part, name)
    if len(value) != 1:
        raise ValueError(f"{name} is {value[:60]!r}; expected one character")
    return value


def flag_field(part: Mapping[str, Any], name: str, default: Any = _NEEDED) -> Any:
    """True or false, or the default; errors as :func:`text_field`."""
    return _field(part, name, bool, default)


def number_field(part: Mapping[str, Any], name: str, default: Any = _NEEDED) -> Any:
    """A whole number from 0, or the default; errors as :func:`text_field`."""
    value = _field(part, name, int, default)
    if value is not None and not 0 <= value < _ID_LIMIT:
        raise ValueError(f"{name} is {str(value)[:60]}; expected 0 to {_ID_LIMIT - 1}")
    return value


def objects_field(part: Mapping[str, Any], name: str) -> List[Mapping[str, Any]]:
    """A list of objects; errors as :func:`text_field`."""
    found: List[Mapping[str, Any]] = _field(part, name, list, _NEEDED)
    for one in found:
        object_of(one, name)
    return found


def object_of(value: Any, name: str) -> Mapping[str, Any]:
    """The value itself, which must be an object.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} holds {str(value)[:60]!r}; expected an object")
    return value


def numbered_words(vocabulary: Any) -> Dict[str, int]:
    """Token to id.

    Raises:
        ValueError: it is no object of ids by token.
    """
    words = dict(object_of(vocabulary, "vocab"))
    ids = words.values()
    if not set(map(type, ids)) <= {int} or not all(0 <= id_ < _ID_LIMIT for id_ in ids):
        raise ValueError(f"vocab holds an id that is no whole number from 0 to {_ID_LIMIT - 1}")
    return words


def scored_pieces(vocabulary: Any) -> List[Tuple[str, float]]:
    """Pieces with their scores, by id.

    Raises:
        ValueError: it is no list of texts with a number each.
    """
    if not isinstance(vocabulary, list):
        raise ValueError(f"vocab holds {type(vocabulary).__name__}; expected a list")
    for entry in vocabulary:
        if (
            type(entry) is not list
            or len(entry) != 2
            or type(entry[0]) is not str
            or not _is_number(entry[1])
        ):
            raise ValueError(f"vocab holds {str(entry)[:60]!r}; expected a text and a number")
    return [(piece, float(score)) for piece, score in vocabulary]


def text_pairs(values: Sequence[Any], name: str) -> List[Tuple[str, str]]:
    """Pairs of texts, each as a list or as one text with a space between them.

    Raises:
        ValueError: there is something else among them.
    """
    if not isinstance(values, list):
        raise ValueError(f"{name} is {str(values)[:60]!r}; expected a list")
    pairs = [value.split(" ") if type(value) is str else value for value in values]
    for pair in pairs:
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str or type(pair[1]) is not str:
            raise ValueError(f"{name} holds {str(pair)[:60]!r}; expected two texts")
    return [(first, second) for first, second in pairs]


def ids_field(part: Mapping[str, Any], name: str) -> Tuple[int, ...]:
    """Token ids; errors as :func:`text_field`."""
    values = _field(part, name, list, _NEEDED)
    if not all(type(value) is int and 0 <= value < _ID_LIMIT for value in values):
        raise ValueError(f"{name} holds {str(values)[:60]!r}; expected ids")
    return tuple(values)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 1 << 64)


def optional_object(description: Mapping[str, Any], name: str) -> Optional[Mapping[str, Any]]:
    """An object, or ``None`` where there is none.

    Raises:
        ValueError: it is something else.
    """
    value = description.get(name)
    return None if value is None else object_of(value, name)
