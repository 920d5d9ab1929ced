"""The table of criteria is all there is to know of them."""

import dataclasses
import subprocess
import sys

import pytest

from obert_edge.errors import UsageError
from obert_edge.host.pruning import Criterion, make_criterion
from obert_edge.host.pruning.criteria import CRITERIA, CriterionOptions, options_of
from obert_edge.host.pruning.settings import Pruning


@pytest.mark.parametrize("name", CRITERIA)
def test_every_row_makes_a_criterion_of_its_name_with_its_options(name):
    criterion = make_criterion(name, **options_of(name, Pruning()))
    assert isinstance(criterion, Criterion)
    assert criterion.name == name
    row = CRITERIA[name]
    if row.options is not None:
        assert criterion.options == row.options()


def test_every_option_of_a_criterion_can_be_given_to_pruning():
    declared = {one.name for one in CriterionOptions.options()}
    theirs = [row.options.options() for row in CRITERIA.values() if row.options is not None]
    assert sorted(declared) == sorted(one.name for options in theirs for one in options)  # and none twice
    changed = Pruning(block_size=8, relative_dampening=True, score_penalty=0.5, hessian_dampening=0.1)
    assert options_of("obert", changed)["relative_dampening"] is True
    assert options_of("soft-movement", changed)["score_penalty"] == 0.5
    assert options_of("sparsegpt", changed) == {"hessian_dampening": 0.1}
    assert options_of("magnitude", changed) == {}


def test_an_unknown_criterion_or_option_is_named_with_those_there_are():
    with pytest.raises(UsageError, match="method is 'obart'; expected one of obert, ") as error:
        make_criterion("obart")
    assert error.value.hint == "did you mean 'obert'?"
    with pytest.raises(UsageError, match="method sparsegpt has no option dampening") as error:
        make_criterion("sparsegpt", dampening=0.1)
    assert "hessian_dampening" in error.value.hint


def test_settings_need_no_torch():
    code = "import sys, obert_edge.host.pruning.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_settings_are_plain_values():
    assert dataclasses.asdict(Pruning())["method"] == "obert"
