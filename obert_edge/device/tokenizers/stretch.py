"""A stretch of text on its way through a tokenizer: what it became, and where each character came from."""

from __future__ import annotations

from typing import Iterable, List, NamedTuple, Sequence, Tuple


class Stretch(NamedTuple):
    """Text with, for each of its characters, the characters of the given text that it stands for.

    Attributes:
        text: the text now.
        starts: for each character, where what it stands for begins in the text that was given.
        ends: for each character, where that ends.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, text: str, shift: int = 0) -> Stretch:
        """A text that nothing was done to yet, which begins at ``shift``."""
        return cls(text, range(shift, shift + len(text)), range(shift + 1, shift + 1 + len(text)))

    def cut(self, start: int, end: int) -> Stretch:
        """The characters from ``start`` up to, but without, ``end``."""
        return Stretch(self.text[start:end], self.starts[start:end], self.ends[start:end])

    def mapped(self, parts: Sequence[str]) -> Stretch:
        """Every character replaced by its part, which stands for what the character stood for."""
        text = "".join(parts)
        lengths = list(map(len, parts))
        if lengths.count(1) == len(lengths):
            return Stretch(text, self.starts, self.ends)
        starts = [start for start, length in zip(self.starts, lengths) for _ in range(length)]
        ends = [end for end, length in zip(self.ends, lengths) for _ in range(length)]
        return Stretch(text, starts, ends)

    def rewritten(self, changes: Iterable[Tuple[str, int]]) -> Stretch:
        """New characters, each with how many of the old ones it takes, as the ``tokenizers`` library counts.

        Args:
            changes: a character and 0, when it replaces one character; and 1, when it is new beside the one
                before it; and -n, when it replaces one and the n behind it are gone.
        """
        characters: List[str] = []
        starts: List[int] = []
        ends: List[int] = []
        last = len(self.text) - 1
        at = 0
        for character, change in changes:
            place = min(max(at - 1, 0) if change > 0 else at, last)
            characters.append(character)
            starts.append(self.starts[place])
            ends.append(self.ends[place])
            if change <= 0:
                at += 1 - change
        return Stretch("".join(characters), starts, ends)
