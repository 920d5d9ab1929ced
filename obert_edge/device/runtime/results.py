"""What a run gave, by name."""

from __future__ import annotations

import functools
from typing import Callable, Dict, Iterator, Mapping, Sequence, Tuple, Type, Union

import numpy as np


class Results(Mapping[str, np.ndarray]):
    """Arrays by the names of outputs, some of them made when somebody first asks for them.

    An embedder's program gives a vector for every token beside the text's own, which alone is asked for: to
    spread the others over a padded array took 3 % of a run.

    Args:
        found: each array, or what makes it.
    """

    def __init__(self, found: Mapping[str, Union[np.ndarray, Callable[[], np.ndarray]]]) -> None:
        self._found = dict(found)

    def __getitem__(self, name: str) -> np.ndarray:
        found = self._found[name]
        if not isinstance(found, np.ndarray):
            # In the place of its maker, which may hold more memory than it.
            found = self._found[name] = found()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self)})"

    def __reduce__(self) -> Tuple[Type[Dict[str, np.ndarray]], Tuple[Dict[str, np.ndarray]]]:
        # Another process gets the arrays.
        return dict, (dict(self),)

    def of_rows(self, rows: Sequence[int]) -> Results:
        """The same of some sequences of the batch.

        Args:
            rows: their places.
        """
        return Results({name: functools.partial(self._some, name, rows) for name in self})

    def _some(self, name: str, rows: Sequence[int]) -> np.ndarray:
        some: np.ndarray = self[name][rows]
        return some
