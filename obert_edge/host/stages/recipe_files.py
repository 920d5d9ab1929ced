"""The YAML of a recipe as plain values, with bounds on what a small file may grow to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

from obert_edge.errors import UsageError
from obert_edge.packages import imports_for

if TYPE_CHECKING:
    import yaml

#: The most bytes of a recipe, values that it holds with its aliases written out, and levels of them. The
#: longest recipe there can be has some hundred values on four levels.
_MOST_BYTES, _MOST_VALUES, _MOST_LEVELS = 1 << 16, 10_000, 40
_HINT = "compare it with docs/reference/recipe.md"


def read_yaml(path: Path) -> Any:
    """What a recipe holds.

    Raises:
        UsageError: there is no such file, it is not YAML, names a key twice, or holds more than a recipe can.
    """
    with imports_for("a recipe"):
        import yaml
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{path} has {path.stat().st_size} bytes; a recipe has some hundred", hint=_HINT)
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        _Sizes(path).of(node)
        return loader.construct_document(node)
    except FileNotFoundError as error:
        raise UsageError(f"there is no recipe {path}", hint="check the path") from error
    except RecursionError as error:
        raise _too_much(path, f"is nested more than {_MOST_LEVELS} levels deep") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path} is not YAML: {str(error)[:1000]}", hint=_HINT) from error


class _Sizes:
    """How many values nodes stand for; a node that aliases repeat is counted as often."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: Dict[int, int] = {}

    def of(self, node: yaml.Node, level: int = 0) -> int:
        """The values below a node, itself included.

        Raises:
            UsageError: there are too many, too deep, or one is within itself; or a key is there twice.
        """
        if level > _MOST_LEVELS:
            raise _too_much(self._path, f"is nested more than {_MOST_LEVELS} levels deep, or within itself")
        if id(node) in self._known:
            return self._known[id(node)]
        below = node.value if isinstance(node.value, list) else []
        self._refuse_twins([pair[0].value for pair in below if isinstance(pair, tuple)])
        parts = [part for one in below for part in (one if isinstance(one, tuple) else (one,))]
        size = 1 + sum(self.of(part, level + 1) for part in parts)
        if size > _MOST_VALUES:
            raise _too_much(self._path, f"holds more than {_MOST_VALUES} values, its aliases written out")
        self._known[id(node)] = size
        return size

    def _refuse_twins(self, keys: list[Any]) -> None:
        names = [key for key in keys if isinstance(key, str)]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(names) < 1000 else []
        if twice:
            raise UsageError(f"{self._path} has the key {twice[0][:60]!r} twice", hint="keep the right one")


def _too_much(path: Path, found: str) -> UsageError:
    return UsageError(f"{path} {found}; no recipe does", hint=_HINT)
