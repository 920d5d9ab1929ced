"""``*.obert-edge.tflite``: our compiled graph as one op of LiteRT, run by our delegate."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obert_edge.bundle.container import Bundle
from obert_edge.device.export import litert_runtime
from obert_edge.device.export.litert_models import write_encoder_tflite
from obert_edge.device.export.litert_runtime import ENCODER_OP, interpret, load_delegate, load_tflite
from obert_edge.device.export.tflite_reader import TfliteReader
from obert_edge.device.export.tflite_writer import TfliteWriter
from obert_edge.device.runtime import library
from obert_edge.device.runtime.native import Library
from obert_edge.device.runtime.session import load
from obert_edge.errors import (
    BundleError,
    InputError,
    UnsupportedDeviceError,
    UsageError,
    VerificationError,
)

RUNTIMES = ("ai_edge_litert", "tflite_runtime")


@pytest.fixture(params=[name for name in RUNTIMES if importlib.util.find_spec(name)] or RUNTIMES[:1])
def runtime(request, monkeypatch) -> Any:
    """The module of each runtime there is, which is then the one that is used."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert has the schema that files are written with")
    module = pytest.importorskip(f"{request.param}.interpreter", reason=f"{request.param} is not installed")
    if request.param == "tflite_runtime":
        monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function: a bundle to the file with its op."""
    pytest.importorskip("ai_edge_litert")
    files: dict[tuple[Path, str], Path] = {}

    def write(bundle: Path, dtype: Any = np.int32) -> Path:
        key = (bundle, np.dtype(dtype).name)
        if key not in files:
            output = tmp_path_factory.mktemp("tflite") / "model.obert-edge.tflite"
            files[key] = write_encoder_tflite(bundle, output, dtype=dtype)
        return files[key]

    return write


def made_up(bundle: Path, shape: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, mask and types: rows padded on the right, and with holes where a model takes them."""
    generator = np.random.default_rng(seed)
    with Bundle.open(bundle) as opened:
        model, holes = opened.manifest.model, not opened.program.uses_first_token
    ids = generator.integers(0, model.vocabulary, shape)
    lengths = generator.integers(1, shape[1] + 1, shape[0])
    mask = (np.arange(shape[1])[None] < lengths[:, None]).astype(int)
    if holes:
        mask = generator.integers(0, 2, shape)
        mask[np.arange(shape[0]), generator.integers(0, shape[1], shape[0])] = 1
    return ids, mask, generator.integers(0, max(1, model.type_vocabulary), shape)


def zip_equal(found: list[np.ndarray], expected: dict[str, np.ndarray]) -> Any:
    assert len(found) == len(expected)
    return zip(found, expected.values())


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
@pytest.mark.parametrize("model", ["classifier", "roberta_tagger", "answerer"])
def test_results_are_those_of_a_session_to_the_bit(runtime, written, request, model):
    bundle = request.getfixturevalue(model)
    run = load_tflite(written(bundle), threads=2)
    with load(bundle, threads=2) as session:
        for shape in [(1, 1), (1, 7), (3, 20), (2, 70), (1, 94)]:
            ids, mask, types = made_up(bundle, shape)
            for ones in (mask, np.ones_like(mask)):
                expected = session.run(ids, ones, types)
                found = run(ids, ones, types)
                assert [array.shape for array in found] == [array.shape for array in expected.values()]
                assert [array.tobytes() for array in found] == [
                    array.tobytes() for array in expected.values()
                ]


def test_64_bit_inputs_are_taken_too(runtime, written, classifier):
    ids, mask, types = made_up(classifier, (2, 9))
    run = load_tflite(written(classifier, np.int64))
    with load(classifier) as session:
        assert run(ids, mask, types)[0].tobytes() == session.run(ids, mask, types)["logits"].tobytes()
    with pytest.raises(InputError, match="is no 32-bit integer"):
        run(ids + 2**32, mask, types)


def test_the_model_may_be_given_as_bytes(runtime, written, classifier):
    """They lie anywhere in memory, and the engine's weights at multiples of 64."""
    data = written(classifier).read_bytes()
    ids, mask, types = made_up(classifier, (1, 12))
    with load(classifier) as session:
        expected = session.run(ids, mask, types)["logits"].tobytes()
    interpreter = runtime.Interpreter(model_content=data, experimental_delegates=[load_delegate(threads=1)])
    details = interpreter.get_input_details()
    for detail in details:
        interpreter.resize_tensor_input(detail["index"], (1, 12))
    interpreter.allocate_tensors()
    for detail, value in zip(details, (ids, mask, types)):
        interpreter.set_tensor(detail["index"], value.astype(np.int32))
    interpreter.invoke()
    output = interpreter.get_output_details()[0]
    assert output["name"] == "logits"
    assert interpreter.get_tensor(output["index"]).tobytes() == expected


#: Runs a file through LiteRT, lets the test overwrite it, and runs again. A crash would be this process's.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from obert_edge.device.export.litert_runtime import interpret, load_delegate, load_tflite

path, how = Path(sys.argv[1]), sys.argv[2]
run = interpret(path, 1, [load_delegate()]) if how == "mapped" else load_tflite(path, threads=2)
ids = np.arange(1, 17, dtype=np.int32).reshape(2, 8)
before = run(ids, np.ones_like(ids), np.zeros_like(ids))[0].tobytes()
print("loaded", flush=True)
sys.stdin.readline()
for _ in range(3):
    assert run(ids, np.ones_like(ids), np.zeros_like(ids))[0].tobytes() == before, "other answers"
print("done", flush=True)
"""


@pytest.mark.parametrize("loader", ["mapped", "load_tflite"])
@pytest.mark.parametrize("how", ["truncated", "ones"])
def test_a_file_that_is_overwritten_under_a_loaded_model_changes_nothing(
    runtime, written, classifier, tmp_path, loader, how
):
    path = tmp_path / "model.tflite"
    path.write_bytes(written(classifier).read_bytes())
    words = [sys.executable, "-c", PROGRAM, str(path), loader]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "loaded\n", process.communicate()[1]
        size = path.stat().st_size
        with path.open("r+b") as stream:
            if how == "truncated":
                stream.truncate(4096)
            else:
                stream.write(b"\xff" * size)
        out, err = process.communicate("go\n", timeout=60)
    assert (process.returncode, out) == (0, "done\n"), err


def test_every_kernel_gives_the_same_bits(runtime, written, classifier):
    ids, mask, types = made_up(classifier, (2, 33))
    with load(classifier) as session:
        expected = session.run(ids, mask, types)["logits"].tobytes()
        names = session.library.implementations()
    for name in names:
        run = interpret(written(classifier), 1, [load_delegate(implementation=name)])
        assert run(ids, mask, types)[0].tobytes() == expected


def test_threads_are_those_of_the_option_else_of_the_interpreter(runtime, written, classifier):
    def started(num_threads: int, **options: Any) -> int:
        before = len(list(Path("/proc/self/task").iterdir()))
        run = interpret(written(classifier), num_threads, [load_delegate(**options)])
        assert run is not None  # and alive
        return len(list(Path("/proc/self/task").iterdir())) - before

    assert started(1) == 0
    assert started(3) == 2
    assert started(1, threads=4) == 3


def test_without_the_delegate_the_error_says_what_to_do(runtime, written, classifier):
    with pytest.raises(
        UnsupportedDeviceError, match=f"holds an op {ENCODER_OP}, which {runtime.__name__}"
    ) as caught:
        interpret(written(classifier), 1)
    assert "load_delegate()" in caught.value.hint


def test_the_delegate_refuses_a_model_without_its_op(runtime, tmp_path):
    writer = TfliteWriter()
    source = writer.tensor((1, 4), name="x")
    path = tmp_path / "other.tflite"
    writer.write(path, [source], [writer.op("TANH", [source], (1, 4))])
    with pytest.raises(UnsupportedDeviceError, match=f"none of the model's 1 ops is {ENCODER_OP}"):
        interpret(path, 1, [load_delegate()])


def one_op(path: Path, options: bytes, *, dtype: Any = np.int32, inputs: int = 3) -> Path:
    writer = TfliteWriter()
    sources = [writer.tensor((1, 4), dtype, name=str(i), open_axes=(0, 1)) for i in range(inputs)]
    result = writer.tensor((1, 3), name="logits", open_axes=(0,))
    writer.custom_op(ENCODER_OP, options, sources, [result])
    writer.write(path, sources, [result])
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda block: b"", "0 bytes were given that are no compiled graph"),
        (lambda block: block[:40], "40 bytes were given that are no compiled graph"),
        (lambda block: b"something" + block[9:], "bytes were given that are no compiled graph"),
        (lambda block: block[:8] + b"\x02" + block[9:], "has format 2; this engine reads 1"),
        (lambda block: block[:-1], "of weights were expected"),
        (lambda block: block[:32] + b"\xff" * 8 + block[40:], "of weights were expected"),
        (lambda block: block[:64] + b"x" + block[65:], "the compiled graph|program"),
    ],
    ids=["empty", "header cut", "magic", "version", "weights cut", "program beyond the end", "program"],
)
def test_a_damaged_graph_is_refused_by_the_engine(runtime, written, classifier, tmp_path, change, said):
    block = bytes(TfliteReader(written(classifier)).custom_ops[ENCODER_OP])
    path = one_op(tmp_path / "damaged.tflite", change(block))
    with pytest.raises(UnsupportedDeviceError, match=said):
        interpret(path, 1, [load_delegate()])


def test_an_op_with_other_inputs_is_refused(runtime, written, classifier, tmp_path):
    block = bytes(TfliteReader(written(classifier)).custom_ops[ENCODER_OP])
    with pytest.raises(UnsupportedDeviceError, match="the op has 2 tensors where 3 to 3 were expected"):
        interpret(one_op(tmp_path / "two.tflite", block, inputs=2), 1, [load_delegate()])
    with pytest.raises(UnsupportedDeviceError, match="int32 or int64 was expected"):
        interpret(one_op(tmp_path / "float.tflite", block, dtype=np.float32), 1, [load_delegate()])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (([[999999]], [[1]], [[0]]), r"ids\[0\] is 999999; it must be 0 to"),
        (([[5, 6]], [[1, 2]], [[0, 0]]), r"attention_mask\[0\]\[1\] is 2; it must be 0 or 1"),
        (([[5, 6]], [[0, 1]], [[0, 0]]), "the model's result is taken from column 0"),
        (([[5, 6]], [[1, 1]], [[0, 7]]), r"token_type_ids\[0\]\[1\] is 7; it must be 0 to"),
        (([[5, 6]], [[1, 1]], [[0]]), r"token_type_ids has shape \[1, 1\]; input_ids has \[1, 2\]"),
        (([[5] * 200], [[1] * 200], [[0] * 200]), "200 tokens; the model takes at most 96"),
    ],
    ids=["id", "mask", "first token", "token type", "shapes", "too long"],
)
def test_inputs_the_model_cannot_take_are_named_and_the_next_run_is_right(
    runtime, written, classifier, arrays, said
):
    run = load_tflite(written(classifier))
    ids, mask, types = made_up(classifier, (2, 5))
    expected = run(ids, mask, types)[0].tobytes()
    with pytest.raises(InputError, match=said):
        run(*arrays)
    assert run(ids, mask, types)[0].tobytes() == expected


def test_a_row_without_a_token_is_refused(runtime, written, roberta_tagger):
    with pytest.raises(InputError, match="row 1 of attention_mask has no token"):
        load_tflite(written(roberta_tagger))([[5, 6], [5, 6]], [[0, 1], [0, 0]], [[0, 0], [0, 0]])


def test_other_bits_than_the_embedded_cases_are_noticed(runtime, written, classifier, monkeypatch):
    """As where a runtime computes nonsense without an error; here one bit of what is expected differs."""
    cases = litert_runtime._cases

    def changed(path, content):
        found = cases(path, content)
        found[-1]["output_0"].view(np.uint32)[0, 0] ^= 1
        return found

    monkeypatch.setattr(litert_runtime, "_cases", changed)
    with pytest.raises(VerificationError, match="1 of 9 values of output 0 have other bits"):
        load_tflite(written(classifier))


def test_a_flipped_bit_of_the_weights_is_noticed(written, classifier, tmp_path):
    data = bytearray(written(classifier).read_bytes())
    options = bytes(TfliteReader(written(classifier)).custom_ops[ENCODER_OP])
    data[data.index(options) + len(options) - 1] ^= 4
    altered = tmp_path / "altered.tflite"
    altered.write_bytes(data)
    with pytest.raises(BundleError, match="is altered"):
        load_tflite(altered)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 0}, "threads is '0'; a number from 1 to 1024"),
        ({"threads": 10**6}, "a number from 1 to 1024"),
        ({"implementation": "x" * 99}, "this CPU and library can run: .*scalar"),
    ],
)
def test_options_the_delegate_does_not_know_are_refused(runtime, options, said):
    with pytest.raises(UsageError, match=said):
        load_delegate(**options)


def test_an_unknown_option_names_the_known_ones(runtime):
    with pytest.raises(
        ValueError, match="there is no option 'thread'; options are threads and implementation"
    ):
        runtime.load_delegate(str(litert_runtime._library(None).path), {"thread": "1"})


def test_kernels_this_cpu_lacks_are_refused_with_those_it_has(runtime, written, classifier):
    with pytest.raises(UnsupportedDeviceError, match="'vax' cannot run here; .*scalar"):
        interpret(written(classifier), 1, [load_delegate(implementation="vax")])


def test_the_delegate_comes_out_of_a_bundle_where_nothing_is_installed(
    runtime, written, classifier, monkeypatch
):
    monkeypatch.setattr(library, "installed_library", lambda: None)
    monkeypatch.setattr(litert_runtime, "installed_library", lambda: None)
    monkeypatch.setattr(library, "_carried_libraries", {})
    assert str(litert_runtime._library(classifier).path).startswith("/proc/self/fd/")
    ids, mask, types = made_up(classifier, (1, 6))
    with load(classifier) as session:
        expected = session.run(ids, mask, types)["logits"].tobytes()
    run = load_tflite(written(classifier), bundle=classifier)
    assert run(ids, mask, types)[0].tobytes() == expected
    with pytest.raises(UnsupportedDeviceError, match="no engine library is installed") as caught:
        load_tflite(written(classifier))
    assert "load_delegate('model.oeb')" in caught.value.hint


def test_an_engine_older_than_the_delegate_is_named(runtime, monkeypatch, tmp_path):
    installed = library.installed_library()
    assert installed is not None
    old = tmp_path / "libold.so"
    names = (b"tflite_plugin_create_delegate", b"tflite_plugin_of_another_name")
    old.write_bytes(installed.path.read_bytes().replace(*names))
    monkeypatch.setattr(litert_runtime, "installed_library", lambda: Library(old))
    with pytest.raises(UnsupportedDeviceError, match=r"libold\.so is older than the delegate"):
        load_delegate()
