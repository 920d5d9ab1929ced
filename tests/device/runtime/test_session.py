"""A session takes padded arrays, computes real tokens only, and says what is wrong with bad ones."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

import obert_edge
from obert_edge.bundle.container import Bundle
from obert_edge.device.runtime.batching import Packer, _integers
from obert_edge.device.runtime.native import _as_int32
from obert_edge.errors import BundleError, InputError, UnsupportedDeviceError, UsageError
from tests.device.bundles import MAX_LENGTH


@pytest.fixture(scope="module")
def session(classifier):
    with obert_edge.load(classifier, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def tagger(roberta_tagger):
    with obert_edge.load(roberta_tagger, threads=1) as opened:
        yield opened


def ids(*shape: int, low: int = 5, high: int = 25) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape)


@pytest.mark.parametrize("options", [{}, {"verify": "full"}, {"threads": 1}])
def test_one_altered_byte_of_the_weights_is_refused(classifier, tmp_path, options):
    with Bundle.open(classifier) as bundle:
        weights = bytes(bundle.weights)
    content = classifier.read_bytes()
    first = content.index(weights)
    for at in (0, len(weights) // 2, len(weights) - 1):
        path = tmp_path / f"{at}.oeb"
        path.write_bytes(content[: first + at] + bytes([weights[at] ^ 1]) + content[first + at + 1 :])
        with pytest.raises(BundleError, match="'weights.bin'.*altered"):
            obert_edge.load(path, **options)
        obert_edge.load(path, verify="header").close()


def test_a_batch_gives_one_row_of_logits_per_text(session):
    logits = session.run(ids(3, 12))["logits"]
    assert logits.shape == (3, 3)
    assert logits.dtype == np.float32
    assert len({row.tobytes() for row in logits}) == 3


def test_one_sequence_is_a_batch_of_one(session):
    row = ids(12)
    assert np.array_equal(session.run(row)["logits"], session.run(row[None])["logits"])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_any_integer_type_and_lists_will_do(session, dtype):
    expected = session.run(ids(2, 9))["logits"]
    assert np.array_equal(session.run(ids(2, 9).astype(dtype))["logits"], expected)
    assert np.array_equal(session.run(ids(2, 9).tolist())["logits"], expected)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), data=st.data())
def test_padding_never_changes_a_bit(session, lengths, data):
    width = max(lengths) + data.draw(st.integers(0, 5))
    batch = ids(len(lengths), width)
    types = data.draw(st.sampled_from([None, np.tile(np.arange(width) % 2, (len(lengths), 1))]))
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    together = session.run(batch, mask, types)["logits"]
    for row, length in enumerate(lengths):
        own = None if types is None else types[row, :length]
        assert together[row].tobytes() == session.run(batch[row, :length], None, own)["logits"].tobytes()


def test_per_token_results_return_to_their_columns_and_are_zero_where_masked(tagger):
    batch, mask = ids(2, 10), np.ones((2, 10), bool)
    mask[0, 7:] = False
    mask[1, [0, 3]] = False  # holes and left padding are fine for a per-token head
    logits = tagger.run(batch, mask)["logits"]
    assert logits.shape == (2, 10, 5)
    assert not logits[~mask].any()
    assert np.abs(logits[mask]).min() > 0
    assert np.array_equal(logits[0, :7], tagger.run(batch[0, :7])["logits"][0])


def test_question_answering_logits_have_no_last_axis(answerer):
    with obert_edge.load(answerer) as opened:
        results = opened.run(ids(2, 10))
    assert {name: array.shape for name, array in results.items()} == {
        "start_logits": (2, 10),
        "end_logits": (2, 10),
    }


def test_positions_of_bert_are_columns_whatever_is_masked(session):
    mask = np.array([[1, 0, 1, 1, 0]])
    packed = Packer(session.library, session.manifest.model).pack(ids(1, 5), mask)
    assert packed.batch.positions.tolist() == [0, 2, 3]


@given(rows=st.lists(st.lists(st.integers(0, 6), min_size=6, max_size=6), min_size=1, max_size=4))
def test_positions_of_roberta_are_those_of_transformers(tagger, rows):
    import torch

    batch = np.array(rows)
    expected = RobertaEmbeddings.create_position_ids_from_input_ids(torch.tensor(batch), padding_idx=1)
    packed = Packer(tagger.library, tagger.manifest.model).pack(batch)
    assert packed.batch.positions.tolist() == expected.flatten().tolist()


def test_threads_and_implementations_give_the_same_bits(classifier, session):
    batch = ids(4, 33)
    expected = session.run(batch)["logits"].tobytes()
    for name in session.library.implementations():
        with obert_edge.load(classifier, threads=2, implementation=name, verify="header") as other:
            assert other.implementation == name
            assert other.run(batch)["logits"].tobytes() == expected


def test_several_callers_take_turns(session):
    batches = [ids(1, length) for length in range(1, 17)]
    expected = [session.run(batch)["logits"] for batch in batches]
    found: dict[int, np.ndarray] = {}

    def call(start: int) -> None:
        for index in range(start, len(batches), 4):
            found[index] = session.run(batches[index])["logits"]

    callers = [threading.Thread(target=call, args=(start,)) for start in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(np.array_equal(found[index], logits) for index, logits in enumerate(expected))


BAD_ARRAYS = {
    "an id beyond the vocabulary": ((np.full((1, 4), 10**6),), "1000000"),
    "an id that would wrap around": ((np.full((1, 4), 2**32 + 5),), "4294967301"),
    "a negative id": ((np.array([[3, -1]]),), "-1"),
    "a sequence too long": ((np.full((1, MAX_LENGTH + 1), 5),), f"{MAX_LENGTH + 1} tokens"),
    "float ids": ((np.ones((1, 4)),), "float64"),
    "bool ids": ((np.ones((1, 4), bool),), "bool"),
    "ids in text": ((np.array([["a"]]),), "expected integers"),
    "rows of different lengths": (([[1, 2], [3]],), "rectangular"),
    "an empty batch": ((np.zeros((0, 4), int),), "at least one token"),
    "no tokens": ((np.zeros((2, 0), int),), "at least one token"),
    "an empty list": (([],), "at least one token"),
    "three axes": ((np.ones((1, 2, 3), int),), "(1, 2, 3)"),
    "a single number": ((5,), "expected [batch, sequence]"),
    "a mask of another shape": ((np.full((2, 4), 5), np.ones((2, 3), int)), "(2, 3)"),
    "a mask for one row of two": ((np.full((2, 4), 5), np.ones(4, int)), "(4,)"),
    "a float mask": ((np.full((1, 4), 5), np.ones((1, 4))), "attention_mask has dtype float64"),
    "a mask of other values": ((np.full((1, 4), 5), np.full((1, 4), 2)), "attention_mask[0][0] is 2"),
    "a row without a token": ((np.full((2, 4), 5), np.array([[1] * 4, [0] * 4])), "row 1"),
    "column 0 masked": ((np.full((1, 4), 5), np.array([[0, 1, 1, 1]])), "column 0"),
    "a token type too high": ((np.full((1, 4), 5), None, np.full((1, 4), 2)), "token_type_ids[0][0] is 2"),
    "token types of another shape": ((np.full((1, 4), 5), None, np.zeros((1, 3), int)), "(1, 3)"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_with_what_was_found_and_a_fix(session, case):
    arguments, found = BAD_ARRAYS[case]
    with pytest.raises(InputError) as caught:
        session.run(*arguments)
    assert found in caught.value.message
    assert caught.value.hint


def test_after_a_refusal_the_session_still_works(session):
    expected = session.run(ids(1, 8))["logits"]
    with pytest.raises(InputError):
        session.run(np.ones((1, 4)))
    assert np.array_equal(session.run(ids(1, 8))["logits"], expected)


def test_a_closed_session_says_so(classifier):
    with obert_edge.load(classifier) as opened:
        pass
    with pytest.raises(InputError, match="closed"):
        opened.run(ids(1, 4))


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, 1025, 2**32 + 1])
def test_threads_must_be_a_positive_whole_number(classifier, threads):
    with pytest.raises(UsageError, match="threads"):
        obert_edge.load(classifier, threads=threads)


def test_an_unknown_implementation_is_unsupported(classifier):
    with pytest.raises(UnsupportedDeviceError):
        obert_edge.load(classifier, implementation="abacus")


def test_a_file_that_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "model.oeb").write_bytes(b"PK not really")
    with pytest.raises(BundleError):
        obert_edge.load(tmp_path / "model.oeb")
    with pytest.raises(BundleError, match="no bundle"):
        obert_edge.load(tmp_path / "missing.oeb")


@pytest.mark.parametrize("path", [None, 5, b"model.oeb"])
def test_what_is_no_path_is_refused(path):
    for opening in (obert_edge.load, Bundle.open):
        with pytest.raises(UsageError, match="path of a bundle is .*; expected a text or a pathlib.Path"):
            opening(path)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_session_cannot_leave_its_process_and_says_what_to_do(session, copied):
    with pytest.raises(TypeError, match="cannot be pickled or copied") as caught:
        copied(session)
    assert f"obert_edge.load({str(session.path)!r})" in str(caught.value)


def test_the_environment_may_force_an_implementation(classifier, monkeypatch):
    monkeypatch.setenv("OBERT_EDGE_IMPLEMENTATION", "scalar")
    with obert_edge.load(classifier) as opened:
        assert opened.implementation == "scalar"


def test_public_names_are_imported_when_first_used():
    import subprocess
    import sys

    code = (
        "import sys, obert_edge; before = set(sys.modules); obert_edge.load; "
        "assert 'numpy' not in before and 'obert_edge.device.runtime.session' in sys.modules; "
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules); print(dir(obert_edge))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"load", "build", "prune", "quantize"} <= set(eval(printed))
    with pytest.raises(AttributeError, match="nothing"):
        obert_edge.nothing  # noqa: B018


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_arrays_at_an_odd_address_are_copied_before_the_engine_reads_them(session, dtype):
    """ARMv7 faults on a read of a number that is not at a multiple of its size."""
    tokens = ids(2, 9).astype(dtype)
    odd = np.frombuffer(b"\0" + tokens.tobytes(), dtype, offset=1).reshape(tokens.shape)
    assert not odd.flags.aligned
    assert all(array.flags.aligned for array in (_integers(odd, "input_ids"), _as_int32("ids", odd)))
    for name, expected in session.run(tokens).items():
        np.testing.assert_array_equal(session.run(odd, np.ones_like(odd))[name], expected)


def test_trimming_gives_memory_back_and_keeps_the_bits(session):
    tokens = ids(3, 20)
    expected = {name: values.tobytes() for name, values in session.run(tokens).items()}
    assert session.arena_bytes > 0
    session.trim()
    assert session.arena_bytes == 0
    assert {name: values.tobytes() for name, values in session.run(tokens).items()} == expected
