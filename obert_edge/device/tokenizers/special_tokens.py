"""The post-processor of a ``tokenizer.json``: special tokens around texts, and spaces off their offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from obert_edge.device.tokenizers.pieces import unknown_part


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
    return [bool(one.get("add_prefix_space", True)) for one in found if one.get("trim_offsets", True)]


def _processors(processor: Optional[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """A post-processor, or those of a sequence of them."""
    if processor is None:
        return []
    if processor.get("type") == "Sequence":
        return [one for part in processor["processors"] for one in _processors(part)]
    return [processor]


def _templates(processor: Mapping[str, Any]) -> Tuple[List[Slot], List[Slot]]:
    kind = processor.get("type")
    if kind in ("BertProcessing", "RobertaProcessing"):
        cls, sep = (int(processor[name][1]) for name in ("cls", "sep"))
        start, end = Slot(0, ids=(cls,)), Slot(0, ids=(sep,))
        first = [start, Slot(0, sequence=0), end]
        if kind == "BertProcessing":
            return first, [*first, Slot(1, sequence=1), Slot(1, ids=(sep,))]
        return first, [*first, end, Slot(0, sequence=1), end]
    if kind == "TemplateProcessing":
        special = {name: tuple(map(int, entry["ids"])) for name, entry in processor["special_tokens"].items()}
        return _template(processor["single"], special), _template(processor["pair"], special)
    raise unknown_part("post-processor", processor)


def _template(items: Sequence[Mapping[str, Any]], special: Mapping[str, Tuple[int, ...]]) -> List[Slot]:
    slots: List[Slot] = []
    for item in items:
        if "Sequence" in item:
            part = item["Sequence"]
            slots.append(Slot(int(part["type_id"]), sequence=0 if part["id"] == "A" else 1))
        else:
            part = item["SpecialToken"]
            slots.append(Slot(int(part["type_id"]), ids=special[part["id"]]))
    return slots
