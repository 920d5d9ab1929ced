"""Damaged bundles whose hashes are right: all that reads one, on two implementations of the kernels."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from pathlib import Path
from random import Random
from typing import Any, Dict, List

import numpy as np

from obert_edge.bundle.archive import write_archive
from obert_edge.bundle.cases import Case, write_cases
from obert_edge.bundle.container import CASES, MANIFEST, MODULES, PROGRAM, TOKENIZER, WEIGHTS, Bundle
from obert_edge.bundle.hashes import chunk_digests, sha256
from obert_edge.bundle.manifest import (
    LinearFacts,
    Manifest,
    ModelFacts,
    ModuleFacts,
    OutputFacts,
    QuantizationFacts,
    TaskFacts,
)
from obert_edge.bundle.program import Linear, Program, WeightFormat
from obert_edge.device.commands.describe import describe
from obert_edge.device.export.dense import read_dense_model
from obert_edge.device.runtime import library as libraries
from obert_edge.device.runtime.session import Session, load
from obert_edge.device.runtime.verify import verify
from obert_edge.errors import InputError, ObertEdgeError
from obert_edge.targets import get_target
from tests.engine.models import HIDDEN, LABELS, POSITIONS, TYPES, VOCABULARY, EncoderBuilder, batch_of
from tests.fuzz.loop import DifferenceError, Target
from tests.fuzz.mutations import change_bytes, change_json

GOLDEN = Path(__file__).parent.parent / "golden"
_IDS = [[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]]
_MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
#: What a field of a program's header, buffer, constant or op may be instead.
_WORDS = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    15,
    16,
    23,
    24,
    25,
    63,
    64,
    65,
    255,
    256,
    4096,
    65535,
    65536,
    2**31 - 1,
    2**31,
)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 3e38, 1e-45, float("inf"), float("-inf"), float("nan"))
#: Sizes of a program's header, buffers, constants and ops, in bytes.
_HEADER, _BUFFER, _CONST, _OP = 64, 16, 16, 228

Members = Dict[str, bytes]


class Bundles(Target):
    """Bundles of several tasks, of every format version."""

    name = "bundle"

    def prepare(self, folder: Path) -> None:
        self._path = folder / "model.oeb"
        self._sources = [_members(path) for path in sorted(GOLDEN.glob("v*.oeb"))]
        self._sources += made_bundles()
        library = libraries.installed_library()
        assert library is not None
        self._best = library.implementations()[0]

    def attempt(self, random: Random) -> None:
        members = damaged(random.choice(self._sources), random)
        self._path.write_bytes(archive(members, random))
        use_bundle(self._path, self._best, random)


def made_bundles() -> List[Members]:
    """Bundles with what the golden ones lack: tokenizers, modules, tasks by token, every weight format."""
    encoder = TaskFacts(
        "encoder",
        modules=[
            ModuleFacts("dense", HIDDEN, 8, activation="tanh", bias=True),
            ModuleFacts("layer_norm", 8, 8),
        ],
        prompts={"query": "q: "},
        default_prompt_name="query",
        normalize=True,
        truncate_dim=4,
    )
    weights = np.linspace(-1, 1, 8 * HIDDEN + 8 + 16, dtype="<f4").tobytes()
    pooling = TaskFacts("encoder", modules=[ModuleFacts("pooling", HIDDEN, 2 * HIDDEN, modes=["cls", "max"])])
    labels = [f"B-{i}" for i in range(HIDDEN)]
    return [
        _made(
            TaskFacts("sequence-classification", ["a", "b", "c", "d", "e"], "single_label"), ["logits"], {}
        ),
        _made(encoder, ["pooled"], {MODULES: weights}, dynamic=True, int4=True),
        _made(pooling, ["last_hidden_state"], {}, compact=True),
        _made(pooling, ["last_hidden_state"], {}, positions=2 * POSITIONS - 1),
        _made(TaskFacts("token-classification", labels), ["logits"], {}),
    ]


def _made(task: TaskFacts, outputs: List[str], more: Members, **options: Any) -> Members:
    builder = EncoderBuilder(layers=1, **options)
    wanted = {"logits": "logits", "pooled": "embedding", "last_hidden_state": "hidden"}[outputs[0]]
    if task.type == "token-classification":
        wanted = "hidden"
    program = builder.program
    program.ops = [op for op in program.ops if type(op).__name__ != "Output" or op.name == wanted]
    channels = LABELS if wanted == "logits" else HIDDEN
    domain = "tokens" if wanted == "hidden" else "sequences"
    linears = [
        LinearFacts(op.name, op.n, op.k, 0.5, WeightFormat(op.format).name, 100, 1.0, 2.0, True)
        for op in program.ops
        if isinstance(op, Linear)
    ]
    manifest = Manifest(
        "x86",
        ModelFacts("bert", "BertModel", HIDDEN, 1, 3, 40, HIDDEN, VOCABULARY, POSITIONS, 0, 0, TYPES, "gelu"),
        task,
        [OutputFacts(outputs[0], domain, channels)],
        QuantizationFacts(
            "qat", "dynamic" if builder.dynamic else "static", "int4" if "int4" in options else "int8"
        ),
        0.5,
        linears,
        reference=dict(get_target("x86").reference),
    )
    cases = []
    library = libraries.installed_library()
    assert library is not None
    for lengths in ((3,), (5, 17)):
        batch = batch_of(lengths)
        with library.open(program.to_bytes(), bytes(builder.weights), implementation="scalar") as model:
            (found,) = model.run(batch)
        assert batch.ids is not None and batch.token_types is not None
        cases.append(Case(batch.starts, batch.ids, batch.token_types, {outputs[0]: found}))
    return {
        MANIFEST: manifest.to_json(),
        PROGRAM: program.to_bytes(),
        WEIGHTS: bytes(builder.weights),
        CASES: write_cases(cases),
        TOKENIZER: _tokenizer(),
        **more,
    }


def _tokenizer() -> bytes:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "is", "good", ".", "##s", *"abcdefghij"]
    special = {
        token: {"id": token, "ids": [id_], "tokens": [token]} for token, id_ in (("[CLS]", 2), ("[SEP]", 3))
    }
    cls, sep = ({"SpecialToken": {"id": token, "type_id": 0}} for token in special)
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": 0,
                    "content": "[PAD]",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
            ],
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [cls, first, sep],
                "pair": [cls, first, sep, second, sep],
                "special_tokens": special,
            },
            "decoder": None,
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {word: i for i, word in enumerate(words)},
            },
        }
    ).encode()


def _members(path: Path) -> Members:
    with Bundle.open(path) as bundle:
        found = {name: bytes(bundle.member(name)) for name in bundle.names if not name.endswith(".py")}
    return {**found, TOKENIZER: _tokenizer()}


def damaged(source: Members, random: Random) -> Members:
    """The members with one or two of them changed."""
    members = dict(source)
    for _ in range(random.choice((1, 1, 1, 2))):
        name = random.choice(
            (MANIFEST, MANIFEST, PROGRAM, PROGRAM, PROGRAM, WEIGHTS, CASES, TOKENIZER, MODULES)
        )
        if name in members:
            members[name] = _CHANGES[name](members[name], random)
    return members


def archive(members: Members, random: Random) -> bytes:
    """A bundle file whose manifest has the right hashes, but for a few whose bytes are changed after that."""
    hashed = {**members, MANIFEST: _with_hashes(members)}
    stream = io.BytesIO()
    write_archive(stream, hashed)
    data = stream.getvalue()
    return change_bytes(data, random) if random.random() < 0.05 else data


def _with_hashes(members: Members) -> bytes:
    """The manifest with the facts of members; where it is no JSON object any more, as it is."""
    try:
        manifest = json.loads(members[MANIFEST])
    except (ValueError, RecursionError):
        return members[MANIFEST]
    if not isinstance(manifest, dict):
        return members[MANIFEST]
    manifest["members"] = {
        name: {
            "sha256": sha256(data),
            "bytes": len(data),
            "chunks": chunk_digests(data) if name == WEIGHTS else [],
        }
        for name, data in members.items()
        if name != MANIFEST
    }
    return json.dumps(manifest).encode()


def change_program(data: bytes, random: Random) -> bytes:
    """A program with fields of buffers, constants or ops changed, or ops moved."""
    if random.random() < 0.05 or len(data) < _HEADER:
        return change_bytes(data, random)
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        buffers, consts, ops = struct.unpack_from("<3I", changed, 12)
        starts = [_HEADER, _HEADER + buffers * _BUFFER, _HEADER + buffers * _BUFFER + consts * _CONST]
        if starts[2] + ops * _OP != len(changed):
            return bytes(changed)
        part = random.random()
        if part < 0.05:
            struct.pack_into("<I", changed, random.randrange(0, _HEADER, 4), random.choice(_WORDS))
        elif part < 0.2 and buffers:
            at = starts[0] + random.randrange(buffers * 4) * 4
            _change_word(changed, at, random)
        elif part < 0.35 and consts:
            at = starts[1] + random.randrange(consts * 2) * 8
            old = struct.unpack_from("<Q", changed, at)[0]
            other = struct.unpack_from("<Q", changed, starts[1] + random.randrange(consts * 2) * 8)[0]
            new = random.choice((old + 1, old + 64, max(0, old - 4), old * 2, other, 0, 2**63, 2**64 - 64))
            struct.pack_into("<Q", changed, at, new % 2**64)
        elif part < 0.9 and ops:
            at = starts[2] + random.randrange(ops) * _OP + random.randrange(41) * 4
            _change_word(changed, at, random)
        elif ops > 1:
            _move_op(changed, starts[2], ops, random)
    return bytes(changed)


def _change_word(data: bytearray, at: int, random: Random) -> None:
    old = struct.unpack_from("<i", data, at)[0]
    if random.random() < 0.15:
        struct.pack_into("<f", data, at, random.choice(_FLOATS))
        return
    new = random.choice(
        (old + 1, old - 1, old * 2, old // 2, old ^ 1 << random.randrange(32), random.choice(_WORDS), -1)
    )
    struct.pack_into("<I", data, at, new % 2**32)


def _move_op(data: bytearray, start: int, ops: int, random: Random) -> None:
    """Swap two ops, put one over another, leave one out or have one twice."""
    one, other = (start + i * _OP for i in random.sample(range(ops), 2))
    first, second = bytes(data[one : one + _OP]), bytes(data[other : other + _OP])
    action = random.randrange(4)
    if action < 2:
        data[one : one + _OP] = second
        data[other : other + _OP] = first if action == 0 else second
        return
    if action == 2:
        del data[one : one + _OP]
    else:
        data[one:one] = second
    struct.pack_into("<I", data, 20, ops - 1 if action == 2 else ops + 1)


def change_weights(data: bytes, random: Random) -> bytes:
    """Weights with bytes, whole floats or lengths changed."""
    if len(data) < 8:
        return change_bytes(data, random)
    changed = bytearray(data)
    for _ in range(random.choice((1, 4, 32))):
        at = random.randrange(0, max(4, len(changed) - 4), 4)
        if random.random() < 0.5:
            struct.pack_into("<f", changed, at, random.choice(_FLOATS))
        else:
            changed[at + random.randrange(4)] = random.randrange(256)
    return bytes(changed) if random.random() < 0.95 else bytes(changed[: random.randrange(len(changed))])


def change_cases(data: bytes, random: Random) -> bytes:
    """Cases with their JSON or their arrays changed."""
    if random.random() < 0.3 or len(data) < 16:
        return change_bytes(data, random)
    length = int.from_bytes(data[:8], "little")
    header, arrays = data[8 : 8 + length], bytearray(data[8 + length :])
    if random.random() < 0.6:
        header = change_json(header.strip(), random)
    elif len(arrays) > 4:
        at = random.randrange(0, len(arrays) - 3, 4)
        struct.pack_into("<I", arrays, at, random.choice(_WORDS))
    return len(header).to_bytes(8, "little") + header + bytes(arrays)


_CHANGES = {
    MANIFEST: change_json,
    PROGRAM: change_program,
    WEIGHTS: change_weights,
    CASES: change_cases,
    TOKENIZER: change_json,
    MODULES: change_bytes,
}


def use_bundle(path: Path, best: str, random: Random) -> None:
    """Do with a bundle what its verbs do; what loads must answer alike on two implementations.

    Raises:
        DifferenceError: it does not.
        ObertEdgeError: it was refused.
    """
    if random.random() < 0.3:
        _quietly(lambda: describe(path, plain=True))
    if random.random() < 0.3:
        _quietly(lambda: verify(path, threads=1).to_text())
    if random.random() < 0.1:
        _quietly(lambda: read_dense_model(path))
    answers = [_answers(path, name, random.choice((1, 2))) for name in ("scalar", best)]
    if answers[0] != answers[1]:
        odd = [name for name in answers[0] if answers[0][name] != answers[1].get(name)]
        raise DifferenceError(f"scalar and {best}: {', '.join(odd)}")


def _quietly(do: Any) -> None:
    """What a verb refuses is no fault, and the next one may take it."""
    with contextlib.suppress(ObertEdgeError):
        do()


def _answers(path: Path, implementation: str, threads: int) -> Dict[str, str]:
    with load(path, threads=threads, implementation=implementation, verify="full") as session:
        found = {
            "run": _said(lambda: session.run(_IDS, _MASK)),
            "run [1]": _said(lambda: session.run([2])),
            "predict": _said(lambda: _predicted(session)),
        }
        if session.manifest.task.type == "encoder":
            found["encode"] = _said(lambda: session.encode(["the film", "is good."]))
        if session.manifest.task.type in ("encoder", "sequence-classification"):
            found["rank"] = _said(lambda: session.rank("the film", ["is good", "."]))
    return found


def _predicted(session: Session) -> Any:
    try:
        return session.predict(["the films.", "good"])
    except InputError:
        return session.predict([("the film", "is good")])


def _said(do: Any) -> str:
    """A result, NaNs of every kind alike; or the type of the refusal."""
    try:
        return _plain(do())
    except ObertEdgeError as error:
        return type(error).__name__


def _plain(value: Any) -> str:
    if isinstance(value, np.ndarray):
        kept = np.where(np.isnan(value), np.float32(7), value)
        return f"{value.dtype}{value.shape}{kept.tobytes().hex()}{np.isnan(value).tobytes().hex()}"
    if isinstance(value, dict):
        return str({name: _plain(one) for name, one in value.items()})
    if isinstance(value, (list, tuple)):
        return str([_plain(one) for one in value])
    to_dict = getattr(value, "to_dict", None)
    return str(value if to_dict is None else to_dict())


__all__ = ["Bundles", "Program"]
