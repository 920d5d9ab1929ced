from __future__ import annotations

import signal
import subprocess
import sys
import time


def test_an_interrupt_ends_with_130_and_leaves_no_output_but_what_resuming_needs(encoder, data, tmp_path):
    arguments = ["finetune", str(encoder), "--task", "text", "--data", str(data), "-o", str(tmp_path / "out")]
    training = ["--max-steps", "200000", "--max-length", "16", "--batch-size", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "obert_edge.cli", *arguments, *training],
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    log = tmp_path / ".out.work" / "train_log.csv"
    while not log.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == [".out.work"]
