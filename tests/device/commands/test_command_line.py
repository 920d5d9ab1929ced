"""The device verbs are declared once: argparse, click and the verbs' functions agree."""

from __future__ import annotations

import inspect

import click
import pytest
from click.testing import CliRunner

from obert_edge.device.commands import bundle_main, verbs
from obert_edge.device.commands.command_line import JSON, VERBS

GIVEN = ["--threads", "3", "--baseline", "litert", "--baseline", "openvino", "--duration", "0.5", "--profile"]
READ = {
    "batch_size": 1,
    "sequence_length": 128,
    "baselines": ["litert", "openvino"],
    "duration": 0.5,
    "iterations": None,
    "min_speedup": None,
    "profile": True,
    "threads": 3,
    "implementation": None,
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_the_options_of_a_verb_are_the_parameters_of_its_function(verb):
    parameters = dict(inspect.signature(getattr(verbs, verb.name)).parameters)
    bundle = parameters.pop("path")
    assert (bundle.default is inspect.Parameter.empty) == verb.needs_bundle
    assert ("progress" in parameters) == verb.shows_progress
    assert ("texts" in parameters) == bool(verb.texts)
    declared = {option.parameter: () if option.repeatable else option.default for option in verb.options}
    for option in verb.options:
        if option.type is None:
            declared[option.parameter] = False
    # What a program may pass but no command line offers.
    unoffered = ("progress", "texts", "options")
    found = {name: parameter.default for name, parameter in parameters.items() if name not in unoffered}
    assert found == declared


def test_argparse_reads_them():
    parsed = bundle_main._parser("model.oeb").parse_args(["bench", *GIVEN, "--json"])
    assert parsed.as_json
    assert VERBS["bench"].arguments(parsed) == READ
    parsed = bundle_main._parser("model.oeb").parse_args(["run", "a question", "a context"])
    assert VERBS["run"].arguments(parsed)["texts"] == ["a question", "a context"]


def test_click_reads_them():
    found = {}

    def function(**values):
        found.update(values)

    for option in (*VERBS["bench"].options, JSON):
        names, settings = option.for_click()
        function = click.option(*names, **settings)(function)
    result = CliRunner().invoke(click.command()(function), GIVEN)
    assert result.exit_code == 0, result.output
    assert not found.pop("as_json")
    assert {**found, "baselines": list(found["baselines"])} == READ


def test_words_typed_for_values_are_read_as_those_values():
    words = [word for option in VERBS["bench"].options for word in option.words(READ[option.parameter])]
    parsed = bundle_main._parser("model.oeb").parse_args(["bench", *words])
    assert VERBS["bench"].arguments(parsed) == READ


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        bundle_main.main([verb, "--help"], "model.oeb")
    assert caught.value.code == 0
    assert VERBS[verb].help.split()[0] in capsys.readouterr().out
