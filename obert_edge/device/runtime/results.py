"""What a run gave, by name."""

from __future__ import annotations

import functools
from typing import Callable, Dict, Iterator, Mapping, Sequence

import numpy as np


class Results(Mapping[str, np.ndarray]):
    """Arrays by the names of outputs, each made when somebody asks for it first.

    An embedder's program gives a vector for every token beside the text's own, which alone is asked for: to
    spread the others over a padded array took 3 % of a run.

    Args:
        makers: what makes each array.
    """

    def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._makers = makers
        self._made: Dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._makers[name]()
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def of_rows(self, rows: Sequence[int]) -> Results:
        """The same of some sequences of the batch.

        Args:
            rows: their places.
        """
        return Results({name: functools.partial(self._some, name, rows) for name in self})

    def _some(self, name: str, rows: Sequence[int]) -> np.ndarray:
        some: np.ndarray = self[name][rows]
        return some
