"""Dataclasses from parsed JSON, every field checked against its annotation."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Dict, Iterable, List, Mapping, NoReturn, Optional, Tuple, Type, TypeVar

from obert_edge.errors import BundleError

#: A whole number of a manifest is smaller than this, and a float64 can be made of it.
LARGEST = 1 << 63
#: Lists and objects stand within at most so many others where a field may hold anything; writers need two.
#: `dataclasses.asdict` makes three calls for each, of the 1,000 that Python allows.
DEEPEST = 32

_T = TypeVar("_T")
_SCALARS: Dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}


def read_record(record_type: Type[_T], value: Any, source: str, where: str, nested: Mapping[str, Any]) -> _T:
    """Build a dataclass from parsed JSON, checking every field against its annotation.

    Args:
        record_type: the dataclass; annotations of its fields are texts, as ``from __future__ import
            annotations`` leaves them.
        value: what stands in the JSON.
        source: what to call the bundle in errors.
        where: path of the value within the manifest, for errors.
        nested: the dataclasses that its fields may hold, by their names.

    Raises:
        BundleError: a field is missing, or its value is of another type.
    """
    if not isinstance(value, dict):
        refuse(source, f"has {where} that is not a JSON object")
    values: Dict[str, Any] = {}
    for name, annotation, plain, optional in _fields(record_type):  # type: ignore[arg-type]
        if name in value:
            if type(value[name]) is plain and plain is not int:
                values[name] = value[name]
                continue
            values[name] = _value(annotation, value[name], source, f"{where}.{name}", nested)
        elif not optional:
            refuse(source, f"lacks {where}.{name}")
    return record_type(**values)


@functools.cache
def _fields(record_type: type) -> List[Tuple[str, str, Optional[type], bool]]:
    """Name, annotation, the type whose values need no check, and whether it may be absent, of every field."""
    missing = dataclasses.MISSING
    found = []
    for spec in dataclasses.fields(record_type):
        annotation = str(spec.type)
        plain = _SCALARS[annotation][-1] if annotation in _SCALARS else None
        optional = spec.default is not missing or spec.default_factory is not missing
        found.append((spec.name, annotation, plain, optional))
    return found


def _value(annotation: str, value: Any, source: str, where: str, nested: Mapping[str, Any]) -> Any:
    if annotation in nested:
        return read_record(nested[annotation], value, source, where, nested)
    if annotation.startswith("List["):
        if not isinstance(value, list):
            refuse(source, f"has {where} that is not a list")
        if annotation == "List[str]" and set(map(type, value)) <= {str}:
            return value  # there may be many
        of = annotation[len("List[") : -1]
        return [_value(of, item, source, f"{where}[{i}]", nested) for i, item in enumerate(value)]
    if annotation.startswith("Dict["):
        if not isinstance(value, dict):
            refuse(source, f"has {where} that is not a JSON object")
        of = annotation[len("Dict[str, ") : -1]
        return {key: _value(of, item, source, f"{where}[{key!r}]", nested) for key, item in value.items()}
    if annotation == "Any":
        _check_nesting(value, source, where)
        return value
    if not isinstance(value, _SCALARS[annotation]) or (isinstance(value, bool) and annotation != "bool"):
        refuse(source, f"has {where} = {repr(value)[:60]}, expected {annotation}")
    if isinstance(value, int) and abs(value) >= LARGEST:
        refuse(source, f"has {where} of {value.bit_length()} bits; expected a number of at most 63")
    return value


def _check_nesting(value: Any, source: str, where: str) -> None:
    """Refuse a value that those who walk through it by recursion could not get to the end of."""
    level = [value]
    for _ in range(DEEPEST):
        level = [item for found in level for item in _items(found)]
        if not level:
            return
    refuse(source, f"nests {where} more than {DEEPEST} levels deep")


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def refuse(source: str, found: str) -> NoReturn:
    """Say what is wrong with the manifest of a bundle."""
    raise BundleError(f"the manifest of {source} {found}", hint="rebuild the bundle with `obert-edge build`")
