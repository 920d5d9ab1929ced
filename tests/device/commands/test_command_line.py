"""The device verbs are declared once: argparse, click and the verbs' functions agree."""

from __future__ import annotations

import inspect

import click
import pytest
from click.testing import CliRunner

from obert_edge import cli
from obert_edge.device.commands import bundle_main, task_options, verbs
from obert_edge.device.commands.command_line import JSON, VERBS
from obert_edge.device.commands.option import TASK
from obert_edge.device.pipelines import PIPELINES
from obert_edge.device.pipelines import task_options as options_of_task
from obert_edge.errors import UsageError

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


#: What to type for an option of each type, and what is read.
TYPED = {bool: ([], True), int: (["7"], 7), float: (["0.25"], 0.25), str: (["X"], "X")}


def typed(option):
    words, value = TYPED[option.kind]
    words, value = (list(option.choices[:1]), option.choices[0]) if option.choices else (words, value)
    return [task_options.flag(option.name), *words], [value] if option.several else value


@pytest.mark.parametrize("task", PIPELINES)
def test_every_option_of_a_task_is_an_option_of_run(task):
    options = options_of_task(task)
    words = [word for option in options.values() for word in typed(option)[0]]
    wanted = {name: typed(option)[1] for name, option in options.items()}
    parsed = bundle_main._parser("model.oeb").parse_args(["run", "a text", *words])
    assert VERBS["run"].arguments(parsed)["options"] == wanted
    context = cli.cli.commands["run"].make_context("run", ["model.oeb", "a text", *words])
    found = VERBS["run"].checked({**context.params, "input_file": None})["options"]
    assert {
        name: list(value) if isinstance(value, tuple) else value for name, value in found.items()
    } == wanted


def test_an_option_of_a_task_that_is_not_given_is_the_pipelines_business():
    parsed = bundle_main._parser("model.oeb").parse_args(["run", "a text"])
    assert VERBS["run"].arguments(parsed)["options"] == {}
    parsed = bundle_main._parser("model.oeb").parse_args(["run", "a text", "--no-normalize"])
    assert VERBS["run"].arguments(parsed)["options"] == {"normalize": False}


def test_no_option_of_a_task_hides_one_of_the_verb():
    own = {option.flag for option in (*VERBS["run"].options, JSON)}
    assert not own & {option.flag for option in task_options.declared()}
    assert all(option.parameter.startswith(TASK) for option in task_options.declared())


@pytest.mark.parametrize(
    ("verb", "flag", "value"),
    [
        ("run", "--threads", 0),
        ("run", "--threads", 2**32 + 1),
        ("verify", "--threads", -1),
        ("bench", "--batch-size", 0),
        ("bench", "--duration", float("nan")),
        ("bench", "--min-speedup", -1.0),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name_on_the_command_line(verb, flag, value):
    parsed = bundle_main._parser("model.oeb").parse_args([verb, f"{flag}={value}"])
    with pytest.raises(UsageError, match=f"{flag} is {value}; expected") as caught:
        VERBS[verb].arguments(parsed)
    assert flag in caught.value.hint
