"""The page of profiles has a section for every model and length."""

from __future__ import annotations

from tools.bench import models, op_profiles


def test_the_page_of_profiles_gives_every_kind_of_op_its_bound(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(models.SHAPES, "tiny", (1, 48, 4, 96))
    page = tmp_path / "profiles.md"
    arguments = [
        "--models",
        str(tmp_path / "models"),
        "--shape",
        "tiny",
        "--sparsity",
        "0.75",
        "--sequence-length",
        "16",
        "24",
    ]
    op_profiles.main([*arguments, "--duration", "0.05", "--threads", "1", "--output", str(page)])
    text = page.read_text()
    assert "## tiny, 75 % 4x1, 1 x 16, 1 thread" in text
    assert "## tiny, 75 % 4x1, 1 x 24, 1 thread" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| Linear")]
    assert rows
    assert all(row[-1].endswith("% |") for row in rows)
    assert str(tmp_path) not in text
    assert "Linear" in capsys.readouterr().out


def test_a_page_is_of_the_kernels_and_has_the_heading_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(models.SHAPES, "tiny", (1, 48, 4, 96))
    page = tmp_path / "profiles.md"
    arguments = ["--models", str(tmp_path / "models"), "--shape", "tiny", "--sparsity", "0.75"]
    arguments += ["--sequence-length", "16", "--duration", "0.05", "--threads", "1", "--output", str(page)]
    op_profiles.main([*arguments, "--implementation", "scalar", "--heading", "Profiles of a toaster"])
    text = page.read_text()
    assert text.startswith("# Profiles of a toaster\n")
    shown = text.splitlines()[2]
    assert shown.endswith(
        "--implementation scalar --threads 1 --duration 0.05 --heading 'Profiles of a toaster'"
    )
    assert "## tiny, 75 % 4x1, scalar, 1 x 16, 1 thread" in text
