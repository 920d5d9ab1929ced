import json

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.pruning import Magnitude, Surgeon, make_criterion, prune_one_shot

from .models import make_batches, make_bert


def test_criteria_are_made_by_name_with_options():
    surgeon = make_criterion("obert", block_size=8, solver="paper")
    assert isinstance(surgeon, Surgeon)
    assert (surgeon.options.block_size, surgeon.options.solver) == (8, "paper")
    assert isinstance(make_criterion("magnitude"), Magnitude)
    assert make_criterion(surgeon) is surgeon


@pytest.mark.parametrize(
    ("criterion", "options"),
    [("random", {}), ("magnitude", {"block_size": 8}), ("obert", {"blocks": 8}), (Magnitude(), {"x": 1})],
)
def test_unknown_criteria_and_options_are_refused(criterion, options):
    with pytest.raises(UsageError):
        make_criterion(criterion, **options)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.2])
@pytest.mark.parametrize("criterion", ["obert", "magnitude"])
def test_sparsity_out_of_range_is_refused(sparsity, criterion):
    with pytest.raises(UsageError, match="sparsity"):
        prune_one_shot(make_bert(), make_batches(1), sparsity=sparsity, criterion=criterion)


@pytest.mark.parametrize("criterion", ["obert", "magnitude"])
def test_a_pattern_that_does_not_fit_is_refused_before_anything_changes(criterion):
    model = make_bert(intermediate_size=36)
    before = model.bert.encoder.layer[0].attention.self.query.weight.clone()
    with pytest.raises(UsageError, match="intermediate.dense"):
        prune_one_shot(model, make_batches(1), sparsity=0.5, pattern="8x1", criterion=criterion)
    assert (model.bert.encoder.layer[0].attention.self.query.weight == before).all()


def test_obert_without_batches_is_refused():
    with pytest.raises(UsageError, match="no batches"):
        prune_one_shot(make_bert(), sparsity=0.5)


def test_no_more_batches_are_taken_than_asked_for():
    taken = []

    def stream():
        for batch in make_batches(10):
            taken.append(batch)
            yield batch

    report = prune_one_shot(make_bert(), stream(), sparsity=0.5, gradients=3, block_size=8)
    assert len(taken) == report.gradients == 3


def test_the_report_is_json_and_a_table():
    report = prune_one_shot(make_bert(), sparsity=0.5, criterion="magnitude", pattern="4x1")
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["sparsity"] == 0.5
    assert len(plain["layers"]) == 12
    assert "query" in str(report)
    assert "50.00%" in str(report).splitlines()[-1]
