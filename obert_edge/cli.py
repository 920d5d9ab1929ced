"""The ``obert-edge`` command: one function per verb, no logic.

Human text goes to stderr, ``--json`` to stdout. Exit codes: 0 ok, 1 a check failed, 2 usage,
3 unsupported device, 130 interrupted. What a verb needs is imported when it runs, so the device
verbs work where torch is absent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence, Tuple, TypeVar

import click

from obert_edge import __version__
from obert_edge.errors import ObertEdgeError, UsageError
from obert_edge.host.stages.recipe import Distillation, Pruning, Quantization, Recipe, Training
from obert_edge.progress import Bar

Function = TypeVar("Function", bound=Callable[..., Any])
_HOST_PACKAGES = ("torch", "transformers", "safetensors", "accelerate", "yaml")


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(run_command(arguments))


def run_command(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return its exit code; errors become one friendly line and the fix."""
    try:
        result = cli.main(
            args=list(arguments) if arguments is not None else None,
            prog_name="obert-edge",
            standalone_mode=False,
        )
    except ObertEdgeError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing was half-written. Run the command again to go on.", err=True)
        return 130
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _HOST_PACKAGES:
            raise
        click.echo(f"error: {error.name} is not installed\n  fix: pip install 'obert-edge[host]'", err=True)
        return UsageError.exit_code
    return result if isinstance(result, int) else 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="obert-edge")
def cli() -> None:
    """From a Hugging Face BERT checkpoint to a measured speed-up on a small CPU."""


def _options(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Several click options as one decorator, in the order given."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_model = click.argument("model", type=click.Path(path_type=Path))
_bundle = click.argument("bundle", type=click.Path(path_type=Path))
_columns = _options(
    click.option(
        "--text-column",
        "text_columns",
        multiple=True,
        help="text: the column(s) of the text.  [default: text]",
    ),
    click.option("--label-column", default="label", show_default=True, help="text: the column of the label."),
    click.option("--tune", default=0, help="Rows of train to hold out as split 'tune'."),
)
_task = _options(
    click.option("--task", "task_name", required=True, help="sst2, mrpc, ..., squad, text or tokens."),
    click.option("--data", required=True, help="Folder or file of the data, or hub:owner/set."),
    _columns,
)
_stage = _options(
    click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write."),
    click.option("--epochs", type=float, help="Passes over train; 0: no training.  [default: 3]"),
    click.option("--max-steps", type=int, help="Optimizer steps, in place of --epochs."),
    click.option("--learning-rate", type=float, help="Peak rate.  [default: 5e-5]"),
    click.option("--final-learning-rate", type=float, help="Where the rate ends.  [default: 0]"),
    click.option("--batch-size", type=int, help="Examples per step.  [default: 32]"),
    click.option("--max-length", type=int, help="Tokens per example.  [default: the task's]"),
    click.option("--precision", help="fp32 or bf16.  [default: fp32]"),
    click.option("--dropout", type=float, help="In training.  [default: the checkpoint's]"),
    click.option("--freeze-embeddings", is_flag=True, default=None, help="Train the encoder and head only."),
    click.option("--seed", type=int, help="[default: 42]"),
    click.option("--limit", type=int, help="Use only the first rows of train."),
    _json,
)
_TRAINING = (
    "epochs",
    "max_steps",
    "learning_rate",
    "final_learning_rate",
    "batch_size",
    "max_length",
    "precision",
    "dropout",
    "freeze_embeddings",
    "seed",
)
_teacher = _options(
    click.option("--teacher", help="Fine-tuned model to learn from.  [default: MODEL]"),
    click.option("--hardness", type=float, help="Weight of the teacher's loss, 0 to 1.  [default: 1]"),
    click.option("--temperature", type=float, help="Of the teacher's loss.  [default: 2]"),
)
_DISTILLATION = ("teacher", "hardness", "temperature")
_surgeon = _options(
    click.option("--block-size", type=int, help="obert: weights in a Fisher block.  [default: 32]"),
    click.option("--dampening", type=float, help="obert: lambda.  [default: 1e-7]"),
    click.option("--layout", help="obert: Fisher blocks by row, or flat as in the paper.  [default: row]"),
    click.option("--solver", help="obert: joint, or paper.  [default: joint]"),
    click.option("--selection", help="obert: independent or greedy.  [default: independent]"),
    click.option("--rescorings", type=int, help="obert: saliencies per Fisher matrix.  [default: 1]"),
    click.option("--recomputations", type=int, help="obert: Fisher matrices per step.  [default: 1]"),
    click.option(
        "--channel-permutation/--no-channel-permutation",
        default=None,
        help="obert: permute output channels first.  [default: off]",
    ),
    click.option("--memory-budget", type=int, help="obert: bytes for it.  [default: half of what is free]"),
)
_SURGEON = (
    "block_size",
    "dampening",
    "layout",
    "solver",
    "selection",
    "rescorings",
    "recomputations",
    "channel_permutation",
    "memory_budget",
)
_engine = _options(
    click.option("--threads", type=int, help="Threads.  [default: as many as this process may use]"),
    click.option("--implementation", help="Kernels to force, such as avx2 or scalar.  [default: the best]"),
)


@cli.command()
@_model
@_task
@_stage
def finetune(model: Path, output: Path, limit: Optional[int], as_json: bool, **options: Any) -> None:
    """Fine-tune the pretrained checkpoint MODEL on a task."""
    from obert_edge.host.stages import finetune as stage

    training = Training(**_given(options, _TRAINING))
    _tell(stage(model, _load_task(options), output, training=training, limit=limit), output, as_json)


@cli.command()
@_model
@_task
@click.option("--sparsity", type=float, help="Share of zeros in the encoder's linears.  [default: 0.8]")
@click.option("--pattern", help="unstructured, 4x1, 2x1, 1x4, 2:4, ... (OUTxIN).  [default: 4x1]")
@click.option(
    "--method", help="obert, magnitude, movement, soft-movement, wanda or sparsegpt.  [default: obert]"
)
@click.option("--scope", help="One threshold per: global, layer or row.  [default: the method's]")
@click.option("--initial-sparsity", type=float, help="Of the first pruning step.  [default: 0.5]")
@click.option("--steps", type=int, help="Pruning steps.  [default: 4]")
@click.option("--until", type=float, help="Share of training after which nothing is pruned.  [default: 0.5]")
@click.option("--gradients", type=int, help="Gradients per pruning step.  [default: 256]")
@click.option("--gradient-batch-size", type=int, help="Examples per gradient.  [default: 16]")
@_surgeon
@_teacher
@_stage
def prune(model: Path, output: Path, limit: Optional[int], as_json: bool, **options: Any) -> None:
    """Prune the fine-tuned MODEL; with --epochs 0 in one shot."""
    from obert_edge.host.stages import prune as stage

    keys = (
        "sparsity",
        "pattern",
        "method",
        "scope",
        "initial_sparsity",
        "steps",
        "until",
        "gradients",
        "gradient_batch_size",
        *_SURGEON,
    )
    report = stage(
        model,
        _load_task(options),
        output,
        pruning=Pruning(**_given(options, keys)),
        training=Training(**_given(options, _TRAINING)),
        distillation=Distillation(**_given(options, _DISTILLATION)),
        limit=limit,
    )
    _tell(report, output, as_json)


@cli.command()
@_model
@_task
@click.option("--method", help="qat (train) or calibrate.  [default: qat]")
@click.option("--activations", help="static or dynamic scales.  [default: static]")
@click.option("--observer", help="calibrate: minmax, percentile or mse.  [default: mse]")
@click.option("--embeddings", help="Word embeddings: int8, or int4 (half the bytes).  [default: int8]")
@_teacher
@_stage
def quantize(model: Path, output: Path, limit: Optional[int], as_json: bool, **options: Any) -> None:
    """Quantize MODEL to INT8; what is pruned stays pruned."""
    from obert_edge.host.stages import quantize as stage

    report = stage(
        model,
        _load_task(options),
        output,
        quantization=Quantization(**_given(options, ("method", "activations", "observer", "embeddings"))),
        training=Training(**_given(options, _TRAINING)),
        distillation=Distillation(**_given(options, _DISTILLATION)),
        limit=limit,
    )
    _tell(report, output, as_json)


def _layers(context: click.Context, parameter: click.Parameter, value: str) -> List[int]:
    """Whole numbers with commas between them."""
    try:
        return [int(number) for number in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of layers such as 0,2,4") from None


@cli.command("drop-layers")
@_model
@_task
@click.option("--keep", required=True, callback=_layers, help="Layers that stay, from 0, such as 0,2,4.")
@_teacher
@_stage
def drop_layers(model: Path, output: Path, limit: Optional[int], as_json: bool, **options: Any) -> None:
    """Keep some layers of MODEL, which teaches what is left; with --epochs 0 only drop."""
    from obert_edge.host.stages import drop_layers as stage

    report = stage(
        model,
        _load_task(options),
        output,
        keep=options["keep"],
        training=Training(**_given(options, _TRAINING)),
        distillation=Distillation(**_given(options, _DISTILLATION)),
        limit=limit,
    )
    _tell(report, output, as_json)


@cli.command("trim-vocabulary")
@_model
@click.option(
    "--corpus",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Texts to count pieces in: .txt, .jsonl, .tsv, .csv; repeatable.",
)
@click.option("--task", "task_name", help="Or count in the train split of this task.")
@click.option("--data", help="Folder or file of the task's data, or hub:owner/set.")
@_columns
@click.option("--keep", type=int, help="At most so many pieces, the most frequent.  [default: no limit]")
@click.option("--min-count", default=1, show_default=True, help="Pieces that occur less often go.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@_json
def trim_vocabulary(model: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Remove the pieces from MODEL's vocabulary that a corpus does not use."""
    from obert_edge.host.stages import trim_vocabulary as stage

    if (options["task_name"] is None) != (options["data"] is None):
        raise click.UsageError("--task and --data belong together")
    task = None if options["task_name"] is None else _load_task(options)
    report = stage(
        model,
        output,
        task=task,
        corpus=options["corpus"],
        min_count=options["min_count"],
        keep=options["keep"],
    )
    found = report["figures"]
    _print(
        f"{output}: {found['kept']} of {found['pieces']} pieces ({found['needed']} are special tokens and "
        f"characters), {found['unchanged']:.2f} % of {found['corpus_tokens']} corpus tokens unchanged; "
        f"a bundle saves {found['bundle_mb_saved']:.1f} MB of INT8 rows and "
        f"{found['tokenizer_mb_saved']:.1f} MB of tokenizer",
        {**report, "output": str(output)},
        as_json,
    )


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

        content = plan(Recipe.load(recipe, **options))
        _print(describe(content), content, as_json)
        return
    from obert_edge.host.stages import compress as stages

    summary = stages(Recipe.load(recipe, **options))
    lines = [_score_line(stage) for stage in summary["stages"]]
    _print("\n".join(lines), summary, as_json)


@cli.command()
@_model
@_task
@click.option("--split", default="dev", show_default=True, help="Rows to score.")
@click.option("--max-length", type=int, help="Tokens per example.  [default: the task's]")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--limit", type=int, help="Only the first rows.")
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another model: how often both answer alike."
)
@click.option("--min-agreement", type=float, help="Exit with 1 below this agreement, in percent.")
@click.option("--predictions", type=click.Path(path_type=Path), help="JSON Lines file to write answers to.")
@click.option("--threads", type=int, help="Of the engine.")
@_json
def evaluate(model: Path, min_agreement: Optional[float], as_json: bool, **options: Any) -> None:
    """Score MODEL, a folder or a bundle, on a split of a task."""
    from obert_edge.host.stages.evaluation import evaluate as score
    from obert_edge.host.stages.evaluation import require_agreement

    keys = ("split", "max_length", "batch_size", "limit", "against", "predictions", "threads")
    result = score(model, _load_task(options), **_given(options, keys))
    _print(_score_line(result), result, as_json)
    if min_agreement is not None:
        require_agreement(result, min_agreement)


@cli.command()
@_model
@click.option("--target", default="x86", show_default=True, help="What to build for.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Bundle to write (.oeb)."
)
@click.option("--calibration-data", type=click.Path(path_type=Path), help="Texts to find ranges with.")
@click.option("--task", "head", help="The head to compile.  [default: the checkpoint's]")
@click.option("--pooling", help="Of an encoder: mean, cls or pooler.  [default: the checkpoint's]")
@click.option("--max-length", type=int, help="Longest sequence.  [default: the model's]")
@click.option("--embeddings", help="Word embeddings: int8 or int4.  [default: MODEL's, else int8]")
@click.option("--tflite", is_flag=True, help="Also write two models for LiteRT beside it.")
@_json
def build(model: Path, target: str, output: Path, as_json: bool, tflite: bool, **options: Any) -> None:
    """Compile MODEL, dense or sparse, quantized or not, into a bundle."""
    from obert_edge.host.compiler.build import build as compile_model

    with Bar() as bar:
        path = compile_model(
            model,
            target,
            output,
            calibration=options["calibration_data"],
            task=options["head"],
            pooling=options["pooling"],
            max_length=options["max_length"],
            embeddings=options["embeddings"],
            progress=lambda stage, fraction: bar.show(stage, int(1000 * fraction), 1000),
        )
    size = path.stat().st_size
    lines = [f"{path}: {size / 1e6:.1f} MB", *_outlook(path, target)]
    data = {"bundle": str(path), "bytes": size, "target": target}
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
@_bundle
@_json
def inspect(bundle: Path, as_json: bool) -> int:
    """Show what BUNDLE holds: layers, sparsity, formats, bytes."""
    from obert_edge.bundle import Bundle
    from obert_edge.device.commands import verbs as commands
    from obert_edge.targets import available_targets

    outcome = commands.inspect(bundle)
    with Bundle.open(bundle, "header") as opened:
        target = opened.manifest.target
    # A third party's target may not be installed here.
    outlook = _outlook(bundle, target) if target in available_targets() else []
    data = {**outcome.data, "outlook": "\n".join(outlook)}
    return _outcome(outcome._replace(text="\n".join([outcome.text, *outlook]), data=data), as_json)


@cli.command()
@_bundle
@_engine
@_json
def verify(bundle: Path, as_json: bool, **options: Any) -> int:
    """Check hashes, and that the embedded cases reproduce bit for bit."""
    from obert_edge.device.commands import verbs as commands

    with Bar() as bar:
        outcome = commands.verify(bundle, progress=bar.show, **options)
    return _outcome(outcome, as_json)


@cli.command()
@_bundle
@click.argument("text", nargs=-1)
@click.option(
    "--input", "input_file", type=click.Path(path_type=Path), help="One input per line (.jsonl: JSON)."
)
@_engine
@_json
def run(bundle: Path, text: Tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Answer for TEXT (two texts: a pair, or question and context)."""
    from obert_edge.device.commands import verbs as commands

    return _outcome(commands.run(bundle, text, **options), as_json)


@cli.command()
@_bundle
@click.option("--batch-size", default=1, show_default=True)
@click.option("--sequence-length", default=128, show_default=True)
@click.option(
    "--baseline", "baselines", multiple=True, help="onnxruntime, litert, openvino, or a variant; repeatable."
)
@click.option("--duration", default=3.0, show_default=True, help="Seconds of timed runs per engine.")
@click.option("--iterations", type=int, help="Timed runs per engine, in place of --duration.")
@click.option("--min-speedup", type=float, help="Exit with 1 below this speed-up over the first baseline.")
@click.option("--profile", is_flag=True, help="Time of every op.")
@click.option("--device", "devices", multiple=True, help="Run there: ssh://user@host[:path]; repeatable.")
@_engine
@_json
def bench(bundle: Path, as_json: bool, devices: Tuple[str, ...], **options: Any) -> int:
    """Measure BUNDLE, and baselines beside it; with --device on other machines."""
    from obert_edge.device.commands import verbs as commands
    from obert_edge.host.remote import bench_devices

    with Bar() as bar:
        if devices:
            outcome = bench_devices(bundle, devices, progress=bar.show, **options)
        else:
            outcome = commands.bench(bundle, progress=bar.show, **options)
    return _outcome(outcome, as_json)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@_json
def doctor(bundle: Optional[Path], as_json: bool) -> int:
    """What this machine can run, and the fix for each finding."""
    from obert_edge.device.commands import verbs as commands

    return _outcome(commands.doctor(bundle), as_json)


def _outlook(path: Path, target: str) -> List[str]:
    """What the target has to say of a new bundle."""
    from obert_edge.bundle import Bundle
    from obert_edge.targets import get_target

    outlook = get_target(target).outlook
    if outlook is None:
        return []
    with Bundle.open(path) as bundle:
        return [outlook(bundle.manifest)]


def _given(options: Dict[str, Any], names: Sequence[str]) -> Dict[str, Any]:
    """Those options the user set; the others keep the defaults of where they are used."""
    return {name: options[name] for name in names if options.get(name) is not None}


def _load_task(options: Dict[str, Any]) -> Any:
    from obert_edge.host.data import load_task

    return load_task(
        options["task_name"],
        options["data"],
        text_columns=options["text_columns"],
        label_column=options["label_column"],
        tune=options["tune"],
    )


def _tell(report: Dict[str, Any], output: Path, as_json: bool) -> None:
    figures: List[str] = [
        f"{key} {value:.4g}" for key, value in report["figures"].items() if isinstance(value, (int, float))
    ]
    _print(
        f"{report['stage']}: wrote {output} ({', '.join(figures)})",
        {**report, "output": str(output)},
        as_json,
    )


def _score_line(score: Dict[str, Any]) -> str:
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in score["metrics"].items())
    agreement = f", agreement {score['agreement']:.2f} %" if "agreement" in score else ""
    return f"{score['model']} ({score['kind']}): {metrics} on {score['n']} of {score['split']}{agreement}"


def _outcome(outcome: Any, as_json: bool) -> int:
    _print(outcome.text, outcome.data, as_json)
    return int(outcome.exit_code)


def _print(text: str, data: Any, as_json: bool) -> None:
    click.echo(text, err=True)
    if as_json:
        click.echo(json.dumps(data, indent=1, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
