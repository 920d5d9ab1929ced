"""The post-processor of a ``tokenizer.json``: special tokens around texts, and spaces off their offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.fields import (
    flag_field,
    ids_field,
    number_field,
    object_of,
    objects_field,
    text_field,
)
from obert_edge.device.tokenizers.pieces import unknown_part

#: What a template calls the two texts.
_SEQUENCES = {"A": 0, "B": 1}


@dataclass(frozen=True)
class Slot:
    """One item of a template: a text (``sequence``), or the ids of a special token."""

    type_id: int
    sequence: Optional[int] = None
    ids: Tuple[int, ...] = ()


@dataclass(frozen=True)
class SpecialTokens:
    """What stands around one text, and around two.

    Args:
        single: of one text.
        pair: of two.
    """

    single: Sequence[Slot]
    pair: Sequence[Slot]

    @classmethod
    def from_json(cls, processor: Optional[Mapping[str, Any]]) -> SpecialTokens:
        """Read ``post_processor``.

        Raises:
            UnsupportedDeviceError: it is of an unknown type, or has more than one template.
        """
        templates = [one for one in _processors(processor) if one.get("type") != "ByteLevel"]
        if not templates:
            return cls([Slot(0, sequence=0)], [Slot(0, sequence=0), Slot(1, sequence=1)])
        if len(templates) > 1:
            raise unknown_part("post-processor", {"type": "Sequence of several templates"})
        return cls(*_templates(templates[0]))

    @property
    def ids(self) -> Sequence[int]:
        """All ids of special tokens in both."""
        return [id_ for slot in (*self.single, *self.pair) for id_ in slot.ids]


def trimmings(processor: Optional[Mapping[str, Any]]) -> List[bool]:
    """How often spaces are left out of the offsets; each time, whether one before a text is kept.

    The kept one is the space that ``add_prefix_space`` put there: it is not in the text.
    """
    found = [one for one in _processors(processor) if one.get("type") in ("ByteLevel", "RobertaProcessing")]
    return [
        flag_field(one, "add_prefix_space", True) for one in found if flag_field(one, "trim_offsets", True)
    ]


def _processors(processor: Optional[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """A post-processor, or those of a sequence of them."""
    if processor is None:
        return []
    if object_of(processor, "post_processor").get("type") == "Sequence":
        return [one for part in objects_field(processor, "processors") for one in _processors(part)]
    return [processor]


def _templates(processor: Mapping[str, Any]) -> Tuple[List[Slot], List[Slot]]:
    kind = processor.get("type")
    if kind in ("BertProcessing", "RobertaProcessing"):
        cls, sep = _token_id(processor["cls"]), _token_id(processor["sep"])
        start, end = Slot(0, ids=(cls,)), Slot(0, ids=(sep,))
        first = [start, Slot(0, sequence=0), end]
        if kind == "BertProcessing":
            return first, [*first, Slot(1, sequence=1), Slot(1, ids=(sep,))]
        return first, [*first, end, Slot(0, sequence=1), end]
    if kind == "TemplateProcessing":
        entries = object_of(processor["special_tokens"], "special_tokens")
        special = {name: ids_field(object_of(entry, name), "ids") for name, entry in entries.items()}
        single, pair = (_template(objects_field(processor, name), special) for name in ("single", "pair"))
        return single, pair
    raise unknown_part("post-processor", processor)


def _template(items: Sequence[Mapping[str, Any]], special: Mapping[str, Tuple[int, ...]]) -> List[Slot]:
    slots: List[Slot] = []
    for item in items:
        if "Sequence" in item:
            part = object_of(item["Sequence"], "Sequence")
            slots.append(Slot(number_field(part, "type_id"), sequence=_SEQUENCES[text_field(part, "id")]))
        else:
            part = object_of(item["SpecialToken"], "SpecialToken")
            slots.append(Slot(number_field(part, "type_id"), ids=special[text_field(part, "id")]))
    return slots


def _token_id(value: Any) -> int:
    """The id of a token that is written as a pair of text and id.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, list) or len(value) != 2 or type(value[0]) is not str:
        raise ValueError(f"a special token is {str(value)[:60]!r}; expected a text and its id")
    identifier: int = number_field({"id": value[1]}, "id")
    return identifier
