"""The load program on a small bundle, for a moment: every answer is counted and compared."""

from __future__ import annotations

import json
import os

from tests.device.bundles import make_bundle
from tools.bench import serve_load


def test_a_moment_of_load_makes_a_page_and_its_figures(tmp_path):
    (tmp_path / "model").mkdir()
    bundle = make_bundle(tmp_path / "model", "BertModel")
    (tmp_path / "texts").write_text("the film is good\n\nanna lives in new york\nthe film is good\n")
    page = tmp_path / "serving.md"
    before = os.sched_getaffinity(0)
    times = ["--seconds", "0.5", "--limit-seconds", "0.2", "--clients", "4"]
    code = serve_load.main([str(bundle), *times, "--texts", str(tmp_path / "texts"), "--output", str(page)])
    assert code == 0
    assert os.sched_getaffinity(0) == before
    figures = json.loads((tmp_path / "serving.json").read_text())
    assert figures["texts"] == 2 and figures["mean_tokens"] == 6.5
    assert figures["requests"] >= 4 and figures["errors"] == figures["wrong"] == 0
    assert figures["share"] > 0 and figures["cpu_share"] > 0 and figures["texts_per_batch"] >= 1
    assert f"| requests, each of one text | {figures['requests']} |" in page.read_text()


def test_a_server_below_the_share_that_was_asked_for_is_an_error(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    bundle = make_bundle(tmp_path / "model", "BertModel")
    times = ["--seconds", "0.2", "--limit-seconds", "0.1", "--clients", "1"]
    code = serve_load.command_line.run(serve_load.main, [str(bundle), *times, "--min-share", "100"])
    assert code == 1 and "10000.0% were asked" in capsys.readouterr().err


def test_texts_are_always_the_same_sentences():
    texts = serve_load.read_texts(None)
    assert texts == serve_load.read_texts(None) and len(set(texts)) == len(texts) == 512
    assert all(text[0].isupper() and text[-1] in ".!?:" for text in texts)
