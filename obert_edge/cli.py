"""The ``obert-edge`` command: one function per verb, no logic.

The verbs of stages, with all their options, are made from the stages' own declarations. A result goes to
stdout, as text or by ``--json``; progress, warnings and errors go to stderr. Exit codes: 0 ok, 1 a check
failed, 2 usage, 3 unsupported device, 130 interrupted. What a verb needs is imported when it runs, so the
device verbs work where torch is absent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from inspect import getdoc
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple, TypeVar

import click

from obert_edge import __version__
from obert_edge.cli_options import HeadedCommand, HeadedOption, declared, given, read
from obert_edge.device.commands import output
from obert_edge.device.commands.command_line import JSON, KEY, VERBS, Verb
from obert_edge.device.commands.option import TASK
from obert_edge.device.commands.option import Option as CommandOption
from obert_edge.device.commands.verbs import INTERRUPTED, failure, to_json
from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.stages.recipe import STAGES, BuildSettings, Recipe, TaskSettings
from obert_edge.host.stages.settings import Rows, Training
from obert_edge.host.stages.stage import Stage, TaskKind
from obert_edge.packages import EXTRAS, TORCH_PACKAGES, how_to_install, require_packages
from obert_edge.progress import Bar
from obert_edge.serve.settings import OPTIONS as SERVE_OPTIONS
from obert_edge.serve.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])
#: What Ctrl-C means to verbs that leave checkpoints behind.
_INTERRUPTED = (
    "interrupted: the output was not written. Run the same command again, and it goes on from the last "
    "checkpoint."
)
_RECIPE_INTERRUPTED = (
    "interrupted: the stages that were complete stay. Run the same command again, and it goes on inside the "
    "interrupted one from its last checkpoint."
)
#: Before the names of a task's options, which stand beside those of a stage.
_TASK = "task__"


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    """Run the command line and exit with its code."""
    output.print_any_text()
    sys.exit(output.ended(run_command(arguments)))


def run_command(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return its exit code; errors become one friendly line and the fix."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        result = cli.main(args=words, prog_name="obert-edge", standalone_mode=False)
    except ObertEdgeError as error:
        return _fail(error, as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except click.ClickException as error:
        return _fail(_refusal(error, words), as_json)
    except (click.Abort, KeyboardInterrupt):
        _complain(_interrupted(words), INTERRUPTED.data, as_json)
        return INTERRUPTED.exit_code
    except MemoryError:
        return _fail(output.no_memory(), as_json)
    except OSError as error:
        if not {"-h", "--help", "--version"} & set(words):
            raise
        return _fail(output.unwritten(error), as_json)  # click's own text
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        missing = UsageError(f"{error.name} is not installed", hint=how_to_install(package))
        return _fail(missing, as_json)
    return result if isinstance(result, int) else 0


def _interrupted(words: Sequence[str]) -> str:
    """What Ctrl-C means to a verb: those that train go on from a checkpoint when they are run again."""
    verb = next((word for word in words if word in cli.commands), "")
    if verb == compress.name:
        return _RECIPE_INTERRUPTED
    kinds = [stage.settings for stage in STAGES if stage.verb == verb]
    trains = any(issubclass(kind, Training) or Training in kind.parts().values() for kind in kinds)
    return _INTERRUPTED if trains else INTERRUPTED.text


def _fail(error: ObertEdgeError, as_json: bool) -> int:
    """Say what went wrong, and return the exit code."""
    outcome = failure(error)
    _complain(outcome.text, outcome.data, as_json)
    return outcome.exit_code


def _refusal(error: click.ClickException, words: Sequence[str]) -> UsageError:
    """What click says of a command line that it cannot read, as one of our errors."""
    verb = next((word for word in words if word in cli.commands), "")
    hint = f"see `obert-edge {verb} --help`" if verb else "see `obert-edge --help`"
    command = cli.commands.get(verb)
    texts = command is not None and any(one.name == "texts" for one in command.params)
    if texts and isinstance(error, click.NoSuchOption):
        hint = f"put -- before a text that begins with a dash; for the options {hint}"
    return UsageError(error.format_message().rstrip("."), hint=hint)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="obert-edge")
def cli() -> None:
    """From a Hugging Face encoder to a measured speed-up on a small CPU."""


def _together(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several click options as one decorator, in the order given."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _click(option: CommandOption) -> Callable[[Function], Function]:
    """A click option of an option of the device verbs."""
    flags, settings = option.for_click()
    return click.option(*flags, **settings)


_json = _click(JSON)
#: A text, not a path, which would fold the slashes of a name on a hub.
_model = click.argument("model")


def _output(help: str) -> Callable[[Function], Function]:
    return click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=help)


def _add_stage(stage: Stage[Any]) -> None:
    """Add the verb of a stage that writes a folder, with the options that its settings declare."""

    def run(model: str, output: Path, as_json: bool, **values: Any) -> None:
        from obert_edge.host.stages.idle import refuse_idle
        from obert_edge.host.stages.runner import check_output, run_stage

        named = [values[_TASK + "name"] is not None, values[_TASK + "data"] is not None]
        if any(named) and not all(named):
            raise click.UsageError("--task and --data belong together")
        settings, rows = read(stage.settings, values), read(Rows, values)
        told = read(TaskSettings, values, below=_TASK) if all(named) else None
        there = given(stage.settings, values) + given(Rows, values)
        require_packages(f"`{stage.verb}`", stage.needed_packages(settings))
        # Both before data are read.
        refuse_idle(stage, settings, TaskKind.of(None, told), there)
        check_output(stage, Path(model), output)
        task = _load_task(values, stage.needs_labels(settings)) if all(named) else None
        refuse_idle(stage, settings, TaskKind.of(task), there)
        report = run_stage(stage, model, task, output, settings, limit=rows.limit)
        _print(str(report), {**report.to_dict(), "output": str(output)}, as_json)

    decorate = _together(
        _model,
        _output("Folder to write."),
        declared(TaskSettings, below=_TASK, optional=not stage.needs_task),
        declared(stage.settings),
        declared(Rows),
        _json,
    )
    cli.command(stage.verb, cls=HeadedCommand, help=getdoc(stage))(decorate(run))


for _stage in STAGES:
    if not _stage.writes_file:
        _add_stage(_stage)


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--model", help="Checkpoint to start from, in place of the recipe's.")
@click.option("--data", help="Data, in place of the recipe's.")
@click.option("-o", "--output", help="Folder for everything the run makes, in place of the recipe's.")
@click.option("--dry-run", is_flag=True, help="Only print the stages, steps, sparsities and learning rates.")
@_json
def compress(recipe: Path, dry_run: bool, as_json: bool, **options: Optional[str]) -> None:
    """Run all stages of RECIPE (YAML); run it again to go on where it was interrupted."""
    if dry_run:
        from obert_edge.host.stages import describe, plan

        found = plan(Recipe.load(recipe, **options))
        _print(describe(found), found.to_dict(), as_json)
        return
    loaded = Recipe.load(recipe, **options)
    require_packages("`compress`", TORCH_PACKAGES)  # it scores what comes out of the stages
    for stage, settings in loaded.stages():
        require_packages(f"stage {stage.name}", stage.needed_packages(settings))
    from obert_edge.host.stages import compress as run_recipe

    summary = run_recipe(loaded)
    _print(str(summary), summary.to_dict(), as_json)


@cli.command(cls=HeadedCommand)
@_model
@declared(TaskSettings, below=_TASK)
@click.option("--split", default="dev", show_default=True, help="The split to score.")
@click.option("--max-length", type=int, help="Tokens per feature.  [default: the task's]")
@click.option("--batch-size", default=32, show_default=True, help="Features at once.")
@declared(Rows)
@click.option("--against", help="Another model; say how often both answer alike.")
@click.option("--min-agreement", type=float, help="Exit with 1 below this agreement, in percent.")
@click.option("--predictions", type=click.Path(path_type=Path), help="JSON Lines file to write answers to.")
@click.option("--threads", type=int, help="Threads of the engine, which runs bundles.  [default: all]")
@_json
def evaluate(model: str, min_agreement: Optional[float], as_json: bool, **options: Any) -> None:
    """Score MODEL, a folder, its name on a hub, or a bundle, on a split of a task."""
    require_packages("`evaluate`", TORCH_PACKAGES)
    from obert_edge.host.stages.evaluation import check_agreement, require_agreement
    from obert_edge.host.stages.evaluation import evaluate as score

    read(Rows, options)  # a wrong limit is refused before data are read
    if min_agreement is not None:
        check_agreement(min_agreement, options["against"])
    task = _load_task(options)
    given = {key: options[key] for key in options if not key.startswith(_TASK)}
    with Bar() as bar:
        result = score(model, task, **given, progress=bar.show)
    _print(str(result), result.to_dict(), as_json)
    if min_agreement is not None:
        require_agreement(result, min_agreement)


@cli.command(cls=HeadedCommand)
@_model
@_output("Bundle to write (.oeb).")
@declared(BuildSettings)
@click.option("--tflite", is_flag=True, help="Also write two models for LiteRT beside it.")
@_json
def build(model: str, output: Path, as_json: bool, tflite: bool, **values: Any) -> None:
    """Compile MODEL, dense or sparse, quantized or not, into a bundle.

    MODEL is a folder, or the name of one on a Hugging Face hub: org/model, or org/model@revision.
    """
    from obert_edge.bundle import Bundle
    from obert_edge.host.stages.runner import run_stage
    from obert_edge.host.stages.stage_build import Build

    settings = read(BuildSettings, values)
    require_packages("`build`", Build().needed_packages(settings))
    if tflite:
        require_packages("`build --tflite`", ("ai_edge_litert",))
        _check_side_files(output)
    path = run_stage(Build(), model, None, output, settings).output
    target = settings.target
    size = path.stat().st_size
    with Bundle.open(path, "header") as bundle:
        quality, source = bundle.manifest.quality, bundle.manifest.source
    lines = [f"{path}: {size / 1e6:.1f} MB", f"quality: {quality.summary}", *_outlook(path, target)]
    data = {"bundle": str(path), "bytes": size, "target": target, "quality": dataclasses.asdict(quality)}
    if source.is_known:
        lines.insert(1, source.summary)
        data["source"] = dataclasses.asdict(source)
    if settings.card:
        from obert_edge.host.hub.card import card_path

        lines.append(f"{card_path(path)}: its model card")
        data["card"] = str(card_path(path))
    if tflite:
        from obert_edge.device.export import litert_models as models

        dense = models.write_dense_tflite(path, path.with_suffix(".tflite"))
        encoder = models.write_encoder_tflite(path, path.with_suffix(models.ENCODER_SUFFIX))
        lines[1:1] = [
            f"{dense}: {dense.stat().st_size / 1e6:.1f} MB, dense INT8 for LiteRT",
            f"{encoder}: {encoder.stat().st_size / 1e6:.1f} MB, for LiteRT with the obert-edge delegate",
        ]
        data.update(tflite=str(dense), tflite_encoder=str(encoder))
    _print("\n".join(lines), data, as_json)


@cli.command()
@_output("Private key to write; the public key goes beside it, with the ending .pub.")
@_json
def keygen(output: Path, as_json: bool) -> None:
    """Make a key pair to sign bundles with; no file is overwritten."""
    from obert_edge.bundle.signature import read_key
    from obert_edge.host.signing import make_keys

    private, public = make_keys(output)
    key = read_key(public)
    lines = [
        f"{private}: the private key; whoever has it can sign, so keep it off devices",
        f"{public}: the public key {key}, for `verify --key` and `load(trusted_keys=)`",
    ]
    data = {"private_key": str(private), "public_key": str(public), "key": key}
    _print("\n".join(lines), data, as_json)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Private key to sign with.")
@_output("Bundle to write; may be BUNDLE itself.")
@_json
def sign(bundle: Path, key: Path, output: Path, as_json: bool) -> None:
    """Sign a BUNDLE that was built before, in place of the signature it may have."""
    from obert_edge.bundle.container import sign_bundle
    from obert_edge.host.signing import read_signer

    signer = read_signer(key)
    path = sign_bundle(bundle, signer, output)
    _print(f"{path}: signed by {signer.key}", {"bundle": str(path), "signed_by": signer.key}, as_json)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: BUNDLE with .gz]"
)
@_json
def pack(bundle: Path, output: Optional[Path], as_json: bool) -> None:
    """Make BUNDLE smaller for its way to a device, where `unpack` makes the same bundle of it."""
    from obert_edge.bundle.packed import SUFFIX, pack_bundle

    path = pack_bundle(bundle, output or bundle.with_name(bundle.name + SUFFIX))
    before, after = bundle.stat().st_size, path.stat().st_size
    text = f"{path}: {after / 1e6:.1f} MB, of a bundle of {before / 1e6:.1f} MB"
    _print(text, {"packed": str(path), "bytes": after, "bundle_bytes": before}, as_json)


@cli.command()
@click.argument("packed", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: PACKED without .gz]"
)
@_click(KEY)
@_json
def unpack(packed: Path, output: Optional[Path], trusted_keys: Tuple[str, ...], as_json: bool) -> None:
    """Make the bundle of PACKED, which `pack` wrote, and check it."""
    from obert_edge.bundle.packed import SUFFIX, unpack_bundle

    if output is None and packed.suffix != SUFFIX:
        raise UsageError(f"{packed} does not end in {SUFFIX}", hint="name the bundle to write with -o")
    path = unpack_bundle(packed, output or packed.with_suffix(""), trusted_keys or None)
    size = path.stat().st_size
    text = f"{path}: {size / 1e6:.1f} MB, every hash is right"
    _print(text, {"bundle": str(path), "bytes": size}, as_json)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("repository", metavar="ORG/NAME[@BRANCH]")
@click.option("--private", is_flag=True, help="Make the repository, where it does not exist, for its owners.")
@click.option("--message", default="", help="Message of the commit.  [default: names the bundle]")
@click.option(
    "--pack", is_flag=True, help="Put its packed form there, of which `pull` makes the same bundle."
)
@_json
def push(bundle: Path, repository: str, private: bool, message: str, pack: bool, as_json: bool) -> None:
    """Put BUNDLE and its model card into a repository of a Hugging Face hub."""
    from obert_edge.host.hub.transfer import push as send

    pushed = send(bundle, repository, private=private, message=message, pack=pack)
    lines = [f"{pushed.url}: {bundle.name} at commit {pushed.commit[:12]}"]
    if not pushed.card:
        lines.append("the repository has a model card of its own, which stays as it is")
    _print("\n".join(lines), {**pushed._asdict(), "bundle": str(bundle)}, as_json)


@cli.command()
@click.argument("repository", metavar="ORG/NAME[@REVISION]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.  [default: its own name]"
)
@click.option("--file", help="Which bundle, where the repository has several.")
@_click(KEY)
@_json
def pull(
    repository: str,
    output: Optional[Path],
    file: Optional[str],
    trusted_keys: Tuple[str, ...],
    as_json: bool,
) -> None:
    """Fetch a bundle and its model card from a repository of a Hugging Face hub, and check it."""
    from obert_edge.host.hub.transfer import pull as fetch

    pulled = fetch(repository, output, file=file, trusted_keys=trusted_keys or None)
    size = pulled.bundle.stat().st_size
    lines = [f"{pulled.bundle}: {size / 1e6:.1f} MB, every hash is right, from commit {pulled.commit[:12]}"]
    lines += [f"{pulled.card}: its model card"] if pulled.card else []
    _print("\n".join(lines), {**pulled._asdict(), "bytes": size}, as_json)


class _DeviceCommand(HeadedCommand):
    """A verb of the device, which looks the options of tasks up only when it is used."""

    verb: Verb
    _late: Optional[List[click.Parameter]] = None

    def get_params(self, ctx: click.Context) -> List[click.Parameter]:
        """The declared parameters, and the options that the tasks bring."""
        if self._late is None:
            self._late = []
            for option in self.verb.late_options():
                names, settings = option.for_click()
                self._late.append(HeadedOption(names, heading=option.heading, **settings))
        *own, help = super().get_params(ctx)
        return [*own, *self._late, help]


def _check_side_files(output: Path) -> None:
    """Refuse what would stand in the way of the models for LiteRT, before the bundle is built."""
    from obert_edge.device.export.litert_models import ENCODER_SUFFIX
    from obert_edge.files import begins_with, check_replaced

    def is_one(path: Path) -> bool:
        return begins_with(path, b"TFL3", at=4)

    for suffix in (".tflite", ENCODER_SUFFIX):
        if output.with_suffix(suffix) == output:
            raise UsageError(
                f"the bundle {output} is called like a model for LiteRT",
                hint=f"name it {output.with_suffix('.oeb')}",
            )
        check_replaced(output.with_suffix(suffix), "model for LiteRT", is_one, suffix)


def _device_verb(name: str, *decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A verb that the device knows as well: its help and options are those of ``python3 model.oeb``."""
    verb = VERBS[name]

    def decorate(function: Any) -> Any:
        def checked(**values: Any) -> Any:
            names = {option.parameter for option in verb.options}
            task = {key: values.pop(key) for key in list(values) if key.startswith(TASK)}
            given = {key: values.pop(key) for key in list(values) if key in names}
            texts = {"texts": values.pop("texts")} if verb.texts else {}
            return function(**values, **verb.checked({**given, **task, **texts}))

        command = _together(*decorators, *map(_click, verb.options), _json)(checked)
        if verb.texts:
            command = click.argument("texts", nargs=-1)(command)
        bundle = click.argument("bundle", type=click.Path(path_type=Path), required=verb.needs_bundle)
        kind = type(f"{name}Command", (_DeviceCommand,), {"verb": verb})
        help = f"{verb.help}\n\n{verb.texts}" if verb.texts else verb.help
        return cli.command(name, cls=kind, help=help)(bundle(command))

    return decorate


@_device_verb("inspect")
def inspect(bundle: Path, as_json: bool) -> int:
    """Show what BUNDLE holds, and what its target has to say of it."""
    from obert_edge.bundle import Bundle
    from obert_edge.device.commands import verbs
    from obert_edge.targets import available_targets

    outcome = verbs.inspect(bundle)
    with Bundle.open(bundle, "header") as opened:
        target = opened.manifest.target
    # A third party's target may not be installed here.
    outlook = _outlook(bundle, target) if target in available_targets() else []
    data = {**outcome.data, "outlook": "\n".join(outlook)}
    return _outcome(outcome._replace(text="\n".join([outcome.text, *outlook]), data=data), as_json)


@_device_verb("verify")
def verify(bundle: Path, as_json: bool, **options: Any) -> int:
    """Check BUNDLE on this machine."""
    from obert_edge.device.commands import verbs

    with Bar() as bar:
        outcome = verbs.verify(bundle, progress=bar.show, **options)
    return _outcome(outcome, as_json)


@_device_verb("run")
def run(bundle: Path, texts: Tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Answer for texts."""
    from obert_edge.device.commands import verbs

    return _outcome(verbs.run(bundle, texts, **options), as_json)


@_device_verb(
    "bench",
    click.option(
        "--device",
        "devices",
        multiple=True,
        help="Measure there, not here: ssh://user@host[:path]; repeatable.",
    ),
)
def bench(bundle: Path, as_json: bool, devices: Tuple[str, ...], **options: Any) -> int:
    """Measure BUNDLE here, or with --device on other machines."""
    from obert_edge.device.commands import verbs
    from obert_edge.host.remote import bench_devices

    with Bar() as bar:
        if devices:
            outcome = bench_devices(bundle, devices, progress=bar.show, **options)
        else:
            outcome = verbs.bench(bundle, progress=bar.show, **options)
    return _outcome(outcome, as_json)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("device", metavar="ssh://[USER@]HOST[:PATH]")
@_click(KEY)
@click.option("--rollback", is_flag=True, help="Switch back to the bundle that was there before, instead.")
@_json
def deploy(bundle: Path, device: str, trusted_keys: Tuple[str, ...], rollback: bool, as_json: bool) -> int:
    """Put BUNDLE in the place of an older one on a device, once it has proved itself there.

    It is copied beside the older one and verified there, and the two are switched by renaming; what `pack`
    wrote is unpacked here first. The older one stays as PATH.previous, and in its place where anything fails.
    With --rollback only BUNDLE's name counts.
    """
    from obert_edge.host import remote

    with Bar() as bar:
        if rollback:
            if trusted_keys:
                raise UsageError(
                    "--key is about a bundle that is copied, and --rollback copies none", hint="leave one out"
                )
            outcome = remote.roll_back(bundle.name, device, progress=bar.show)
        else:
            outcome = remote.deploy(bundle, device, trusted_keys=trusted_keys or None, progress=bar.show)
    return _outcome(outcome, as_json)


@cli.command(cls=HeadedCommand)
@click.argument("bundles", metavar="[NAME=]BUNDLE...", nargs=-1, required=True)
@_together(*map(_click, SERVE_OPTIONS))
def serve(bundles: Tuple[str, ...], **options: Any) -> int:
    """Answer for bundles over HTTP: /v1/embeddings, /rerank, /predict, /metrics.

    Each is served by its file's name less its ending, or as NAME. API keys are taken from the environment,
    OBERT_EDGE_API_KEY or OBERT_EDGE_API_KEY_FILE. SIGHUP reloads, SIGTERM finishes and ends.
    """
    from obert_edge.serve.server import serve as run_server

    settings = Settings(**options)
    _log_to_stderr()
    return run_server(bundles, settings)


@_device_verb("doctor")
def doctor(bundle: Optional[Path], as_json: bool) -> int:
    """Say what this machine can run."""
    from obert_edge.device.commands import verbs

    return _outcome(verbs.doctor(bundle), as_json)


def _outlook(path: Path, target: str) -> List[str]:
    """What the target has to say of a new bundle."""
    from obert_edge.bundle import Bundle
    from obert_edge.targets import get_target

    outlook = get_target(target).outlook
    if outlook is None:
        return []
    with Bundle.open(path) as bundle:
        return [outlook(bundle.manifest)]


def _log_to_stderr() -> None:
    """What a server has to say goes to stderr, line by line with the time."""
    import logging

    from obert_edge.serve.logs import LineFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _load_task(values: Dict[str, Any], needs_labels: bool = True) -> Any:
    """The task that the user names; what its data were taken for is shown."""
    task = read(TaskSettings, values, below=_TASK).load(needs_labels)
    _say(task.describe())
    return task


def _outcome(outcome: Any, as_json: bool) -> int:
    _print(outcome.text, outcome.data, as_json)
    return int(outcome.exit_code)


def _print(text: str, data: Any, as_json: bool) -> None:
    """Print a result on stdout: as text, or as JSON with the text beside it on stderr."""
    try:
        click.echo(to_json(data) if as_json else text)
    except BrokenPipeError:  # a reader that closes early (`| head`) has what it wants
        raise click.exceptions.Exit(1) from None
    except OSError as error:
        raise output.unwritten(error) from error
    if as_json:
        _say(text)


def _complain(text: str, data: Any, as_json: bool) -> None:
    """Print what is no result on stderr; who reads JSON finds it on stdout as well."""
    if text:
        _say(text)
    if as_json:
        with contextlib.suppress(OSError):
            click.echo(to_json(data))


def _say(text: str) -> None:
    """Write a line to stderr; where that cannot be written, nobody listens."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


if __name__ == "__main__":
    main()
