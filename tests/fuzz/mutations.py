"""Changes of values, texts and bytes, drawn from a seeded generator."""

from __future__ import annotations

import json
from random import Random
from typing import Any, Callable, List, Sequence, Tuple

#: A place within parsed JSON: its container and the key or index there.
Place = Tuple[Any, Any]

_INTEGERS = (0, 1, -1, 2, 3, 7, 16, 127, 128, 255, 256, 1000, 65535, 2**20, 2**31 - 1, 2**31, -(2**31), 2**32)
_LARGE = (2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400)
_FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-30, 1e30, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "",
    " ",
    "a",
    "\0",
    "\ud800",
    "é",
    "🫠",
    "[",
    "(?",
    "a" * 3000,
    "../x",
    "/etc",
    "null",
    "-1",
    "1e9",
    "ᄀ",
)
_TYPES = (
    "BPE",
    "WordPiece",
    "Unigram",
    "WordLevel",
    "Sequence",
    "ByteLevel",
    "Metaspace",
    "Split",
    "Replace",
)


def nested(depth: int, kind: str = "list") -> Any:
    """A value inside of ``depth`` others."""
    value: Any = 0
    for _ in range(depth):
        value = [value] if kind == "list" else {"type": "Sequence", "normalizers": [value]}
    return value


def odd_value(random: Random) -> Any:
    """A value that may not fit where it is put."""
    makers: Sequence[Callable[[], Any]] = (
        lambda: None,
        lambda: random.choice((True, False)),
        lambda: random.choice(_INTEGERS),
        lambda: random.choice(_LARGE),
        lambda: random.choice(_FLOATS),
        lambda: random.choice(_TEXTS),
        lambda: random.choice(_TYPES),
        lambda: {},
        lambda: [],
        lambda: [[]],
        lambda: [None],
        lambda: {"": None},
        lambda: [random.choice(_INTEGERS), random.choice(_TEXTS)],
        lambda: {random.choice(_TEXTS): random.choice(_INTEGERS)},
        lambda: nested(random.choice((3, 40, 300)), random.choice(("list", "object"))),
    )
    return random.choice(makers)()


def places(value: Any, most: int = 4000) -> List[Place]:
    """The places within parsed JSON, at most so many."""
    found: List[Place] = []
    todo = [value]
    while todo and len(found) < most:
        container = todo.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                todo.append(container[key])
    return found


def _shallow_place(value: Any, random: Random) -> Place:
    """A place, each level as likely as the others: a vocabulary has thousands, and is one part of many."""
    container = value
    while True:
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        key = random.choice(keys)
        inner = container[key]
        if not isinstance(inner, (dict, list)) or not inner or random.random() < 0.35:
            return container, key
        container = inner


def _copied(value: Any) -> Any:
    """A copy that shares nothing, of values however deep."""
    return json.loads(json.dumps(value, default=str))


def change_value(value: Any, random: Random, *, own: bool = False) -> Any:
    """Parsed JSON with one to three things changed; the original stays as it is, unless it is ``own``ed."""
    changed = value if own else _copied(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if not isinstance(changed, (dict, list)) or not changed or random.random() < 0.01:
            return odd_value(random)
        _change(changed, random)
    return changed


def _change(value: Any, random: Random) -> None:
    container, key = _shallow_place(value, random)
    action = random.random()
    if action < 0.5:
        container[key] = _near(container[key], random) if random.random() < 0.4 else odd_value(random)
    elif action < 0.65:
        del container[key]
    elif action < 0.75:
        other, place = random.choice(places(value))
        container[key] = _copied(other[place])
    elif action < 0.85 and isinstance(container, list):
        container.insert(random.randrange(len(container) + 1), _copied(random.choice(container)))
    elif isinstance(container, dict):
        container[random.choice((*_TEXTS, str(key) + "x", "type"))] = container.pop(key)
    else:
        random.shuffle(container)


def _near(value: Any, random: Random) -> Any:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice((value + 1, value - 1, -value, value * 2, value // 2, random.choice(_INTEGERS)))
    if isinstance(value, float):
        return random.choice((value * 2, -value, random.choice(_FLOATS)))
    if isinstance(value, str):
        return random.choice((value[:-1], value + value, value[::-1], random.choice(_TEXTS)))
    if isinstance(value, list):
        return random.choice((value[:-1], value + value, value[::-1], value[:1] * 3))
    return {} if value is None else dict(list(value.items())[: random.randrange(len(value) + 1)])


def to_json(value: Any) -> bytes:
    """The bytes of parsed JSON, half characters and NaN included."""
    return json.dumps(value).encode()


def change_bytes(data: bytes, random: Random) -> bytes:
    """Bytes with one to four places changed, or cut, or with a part twice."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(changed) + 1)
        action = random.random()
        if action < 0.4 and at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
        elif action < 0.6 and at < len(changed):
            changed[at] = random.choice((0, 1, 0x22, 0x5B, 0x7B, 0x7F, 0x80, 0xFF))
        elif action < 0.7:
            del changed[at:]
        elif action < 0.85:
            del changed[at : at + random.randrange(1, 64)]
        else:
            changed[at:at] = changed[at : at + random.randrange(1, 64)]
    return bytes(changed)


def change_json(text: bytes, random: Random) -> bytes:
    """A JSON text with something changed: mostly in what it says, now and then in its bytes."""
    if random.random() < 0.1:
        return change_bytes(text, random)
    if random.random() < 0.02:
        depth = random.choice((500, 5000, 100_000))
        return random.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # it was damaged before
        return change_bytes(text, random)
    return to_json(change_value(value, random, own=True))


def change_text(data: bytes, random: Random) -> bytes:
    """A text with lines or bytes changed, as an editor or a spreadsheet leaves it."""
    lines = data.splitlines(keepends=True)
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(lines) + 1)
        action = random.random()
        if action < 0.15 and at < len(lines):
            del lines[at]
        elif action < 0.3 and at < len(lines):
            lines.insert(random.randrange(len(lines) + 1), lines[at])
        elif action < 0.6:
            lines.insert(at, random.choice(_LINES))
        elif at < len(lines):
            lines[at] = (
                change_bytes(lines[at], random)
                if random.random() < 0.6
                else lines[at].rstrip() + random.choice(_ENDS)
            )
    return b"".join(lines) or b"\n"


_LINES = (
    b"\n",
    b"\0\n",
    b'"\n',
    b"a\tb\tc\td\te\n",
    b",,,,\n",
    b"\xff\xfe\n",
    b"\xef\xbb\xbf",
    b"\r",
    b"x: [\n",
    b"2001-99-99\n",
    b"x: 2001-99-99\n",
    b"? {a: 1}\n: 2\n",
    b"<<: [1]\n",
    b"x: !!python/object:os.system\n",
    b"x: !!binary a\n",
    b"&a\n",
    b"x: 9" + b"9" * 5000 + b"\n",
    b"x: 1e400\n",
    b"- a\n",
    b"%YAML 9\n",
    b"---\n",
    b"x: 0o9\n",
    b"x: 1:99:99\n",
    b"extends: recipe.yaml\n",
)
_ENDS = (
    b"",
    b"\t" + b"9" * 5000,
    b"," + b"9" * 5000,
    b"1e999\n",
    b"\r\n",
    b"\r",
    b"\t\n",
    b',"',
    b"\0\n",
    b"\x0b\n",
    "\u2028\n".encode(),
    b" O\n",
    b"\ttrue\n",
)
