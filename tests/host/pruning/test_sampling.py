import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from obert_edge.errors import UsageError
from obert_edge.host.pruning.sampling import draw_batches, preserved_random_state


def loader(dataset):
    return SimpleNamespace(
        dataset=dataset, collate_fn=lambda rows: {"x": torch.tensor(rows), "text": "not a tensor"}
    )


def drawn(batches):
    return [batch["x"].tolist() for batch in batches]


def test_the_same_seed_draws_the_same_batches_and_another_seed_others():
    first, again, other = (
        drawn(draw_batches(loader(list(range(100))), 5, batch_size=4, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other
    rows = [row for batch in first for row in batch]
    assert len(set(rows)) == 20
    assert rows != sorted(rows)


def test_only_tensors_are_kept():
    assert all(set(batch) == {"x"} for batch in draw_batches(loader([1, 2]), 1, batch_size=2, seed=0))


def test_a_small_data_set_is_gone_through_again():
    rows = [row for batch in drawn(draw_batches(loader([0, 1, 2]), 3, batch_size=2, seed=0)) for row in batch]
    assert sorted(rows) == [0, 0, 1, 1, 2, 2]


def test_processes_share_the_batches_of_one():
    data = loader(list(range(40)))
    whole = drawn(draw_batches(data, 6, batch_size=3, seed=7))
    parts = [drawn(draw_batches(data, 6, batch_size=3, seed=7, rank=r, world_size=2)) for r in range(2)]
    assert parts[0] == whole[::2]
    assert parts[1] == whole[1::2]


def test_a_stream_is_read_in_its_order():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(range(5))

    assert drawn(draw_batches(loader(Stream()), 3, batch_size=2, seed=0)) == [[0, 1], [2, 3], [4, 0]]


@pytest.mark.parametrize("dataset", [[], (x for x in ())])
def test_an_empty_training_set_is_refused(dataset):
    with pytest.raises(UsageError, match="empty"):
        draw_batches(loader(dataset), 1, batch_size=1, seed=0)


def test_random_states_are_put_back_even_when_the_data_set_draws():
    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    class Augmented(list):
        def __getitem__(self, index):
            return super().__getitem__(index) + random.random() + float(torch.rand(())) + np.random.rand()  # noqa: NPY002

    before = state()
    first = drawn(draw_batches(loader(Augmented([1.0, 2.0, 3.0])), 4, batch_size=2, seed=3))
    assert state() == before
    assert drawn(draw_batches(loader(Augmented([1.0, 2.0, 3.0])), 4, batch_size=2, seed=3)) == first
    with pytest.raises(ZeroDivisionError), preserved_random_state():
        torch.rand(3)
        _ = 1 / 0
    assert state() == before
