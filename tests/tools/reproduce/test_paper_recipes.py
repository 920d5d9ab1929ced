"""The recipes of the paper say what the paper says: checked by a dry run of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from obert_edge.host.stages import describe, plan
from obert_edge.host.stages.recipe import Recipe

FOLDER = Path(__file__).parents[3] / "tools" / "reproduce" / "paper"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
#: Training rows; batch of a step.
TASKS = {"squad": (88524, 16), "mnli": (392702, 32), "qqp": (363846, 32)}


def stages(name: str) -> Dict[str, Dict[str, Any]]:
    return {stage["stage"]: stage for stage in plan(Recipe.load(FOLDER / f"{name}.yaml")).to_dict()["stages"]}


def percents(stage: Dict[str, Any]) -> List[float]:
    return [round(100 * moment["sparsity"], 1) for moment in stage["pruning"]]


def test_there_is_a_recipe_for_every_row_of_the_paper() -> None:
    expected = {
        f"{task}-{sparsity}-{epochs}" for task in TASKS for sparsity in (80, 90, 97) for epochs in (10, 30)
    }
    expected |= {f"squad-{layers}-block4-{s}-qat" for layers in (12, 6, 3) for s in (80, 90)}
    expected |= {f"squad-{layers}-{s}" for layers in (6, 3) for s in (80, 90)}
    expected |= {"upstream-12-dense", "upstream-6", "upstream-3", "upstream-90", "upstream-97"}
    expected |= {f"transfer-{task}-{s}" for task in TASKS for s in (90, 97)}
    assert set(NAMES) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_whole(name: str) -> None:
    recipe = Recipe.load(FOLDER / f"{name}.yaml")
    assert Path(recipe.output).name == name
    assert describe(plan(recipe)).count("\n") >= 3


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("sparsity", "steps"),
    [
        (80, [70.0, 74.2, 77.0, 78.8, 79.6, 80.0, 80.0]),
        (90, [70.0, 78.4, 84.1, 87.5, 89.3, 89.9, 90.0]),
        (97, [70.0, 81.4, 89.0, 93.6, 96.0, 96.9, 97.0]),
    ],
)
def test_thirty_epochs_prune_every_four_and_rewind_each_time(
    task: str, sparsity: int, steps: List[float]
) -> None:
    prune = stages(f"{task}-{sparsity}-30")["prune"]
    rows, batch = TASKS[task]
    epoch = -(-rows // batch)
    assert (prune["steps_per_epoch"], prune["steps"], prune["batch"]) == (epoch, 30 * epoch, batch)
    assert percents(prune) == steps
    moments = [2, 6, 10, 14, 18, 22, 26]
    assert [moment["epoch"] for moment in prune["pruning"]] == moments
    high, low = (8e-5, 8e-6) if task == "squad" else (5e-5, 5e-6)
    rates = dict(prune["rates"])
    for at in [0, *moments]:
        assert rates[at * epoch] == pytest.approx(high)
    for at in [*moments, 30]:
        assert rates[at * epoch - 1] == pytest.approx(low, rel=0.01)
    assert (prune["distillation"]["hardness"], prune["distillation"]["temperature"]) == (1.0, 2.0)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("sparsity", [80, 90, 97])
def test_ten_epochs_prune_twice_per_epoch_and_rewind_once(task: str, sparsity: int) -> None:
    prune = stages(f"{task}-{sparsity}-10")["prune"]
    epoch = prune["steps_per_epoch"]
    moments = [round(moment["epoch"] * 2) / 2 for moment in prune["pruning"]]
    assert moments == [2 + i / 2 for i in range(13)]
    assert (percents(prune)[0], percents(prune)[-1]) == (70.0, sparsity)
    assert [step for step, _ in prune["rates"]] == [0, 8 * epoch - 1, 8 * epoch, 10 * epoch - 1]
    high, low = prune["rates"][0][1], prune["rates"][-1][1]
    assert (high, low) == (pytest.approx(8e-5), pytest.approx(3e-5 if task == "squad" else 2e-5, rel=0.01))
    assert prune["rates"][2][1] == pytest.approx(high)


@pytest.mark.parametrize(("name", "first", "last"), [("squad-6-80", 30.0, 80.0), ("squad-3-90", 30.0, 90.0)])
def test_fewer_layers_start_at_thirty_percent_from_the_upstream_model(
    name: str, first: float, last: float
) -> None:
    recipe = Recipe.load(FOLDER / f"{name}.yaml")
    layers = name.split("-")[1]
    assert Path(recipe.model).parent.name == f"upstream-{layers}"
    prune = stages(name)["prune"]
    assert (percents(prune)[0], percents(prune)[-1]) == (first, last)
    if last == 80:
        assert percents(prune) == pytest.approx([30.0, 51.1, 65.2, 73.8, 78.1, 79.8, 80.0], abs=0.06)
    drop = stages(f"upstream-{layers}")["drop"]
    assert len(drop["keep"]) == int(layers)
    assert (drop["batch"], drop["distillation"]["temperature"]) == (256, 5.5)


def test_blocks_of_four_are_quantized_for_ten_epochs() -> None:
    for layers in (12, 6, 3):
        recipe = Recipe.load(FOLDER / f"squad-{layers}-block4-90-qat.yaml")
        assert recipe.prune is not None
        assert (recipe.prune.pattern, recipe.prune.block_size, recipe.prune.solver) == ("1x4", 32, "paper")
        both = stages(f"squad-{layers}-block4-90-qat")
        assert both["quantize"]["steps"] == 10 * both["quantize"]["steps_per_epoch"]
        assert percents(both["prune"])[0] == (70.0 if layers == 12 else 30.0)
        assert list(both) == ["prune", "quantize", "build"]


def test_upstream_prunes_four_times_per_epoch_from_the_first_step() -> None:
    prune = stages("upstream-97")["prune"]
    assert [moment["epoch"] for moment in prune["pruning"]] == pytest.approx(
        [i / 4 for i in range(12)], abs=1e-4
    )
    assert (prune["pruning"][0]["step"], prune["batch"], percents(prune)[-1]) == (0, 256, 97.0)
    assert prune["rates"][0] == (0, pytest.approx(5e-4))
    assert len(prune["rates"]) == 2 + 2 * 11


def test_transfer_keeps_the_upstream_zeros() -> None:
    for task, (rows, batch) in TASKS.items():
        transfer = stages(f"transfer-{task}-97")["transfer"]
        assert transfer["steps"] == 8 * -(-rows // batch)
        assert dict(transfer["rates"])[0] == pytest.approx(1.5e-4)
        assert "pruning" not in transfer
        assert Path(Recipe.load(FOLDER / f"transfer-{task}-97.yaml").model).parent.name == "upstream-97"


def test_the_command_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "obert_edge.cli",
        "compress",
        str(FOLDER / "squad-90-10.yaml"),
        "--dry-run",
    ]
    done = subprocess.run([*command, "-o", str(tmp_path / "out")], capture_output=True, text=True, check=True)
    assert "prune step   11066 (epoch 2) to 70.00 %" in done.stdout
    assert "learning rate 8.00e-05 at 0" in done.stdout
    assert not (tmp_path / "out").exists()
