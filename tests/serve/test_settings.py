"""What a server is told is checked before it begins."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys

import pytest

from obert_edge import cli
from obert_edge.errors import UsageError
from obert_edge.serve.server import _passed, api_keys
from obert_edge.serve.settings import OPTIONS, Settings


def test_every_field_is_an_option_with_its_default():
    names = [field.name for field in dataclasses.fields(Settings)]
    assert [option.parameter for option in OPTIONS] == names
    for option in OPTIONS:
        assert getattr(Settings(), option.parameter) == (() if option.repeatable else option.default)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"port": 70000}, "--port is 70000"),
        ({"max_queue": 0}, "--max-queue is 0"),
        ({"keep_alive": float("nan")}, "--keep-alive is nan"),
        ({"max_queue_tokens": 10}, "could never be accepted"),
    ],
)
def test_values_out_of_range_are_refused(values, said):
    with pytest.raises(UsageError, match=said):
        Settings(**values)


def test_keys_are_read_of_the_environment_alone(tmp_path):
    assert api_keys({}) == []
    (tmp_path / "keys").write_text("third-key-\n\nfourth-key\n")
    found = api_keys(
        {"OBERT_EDGE_API_KEY": "first-key, second-key", "OBERT_EDGE_API_KEY_FILE": str(tmp_path / "keys")}
    )
    assert found == ["first-key", "second-key", "third-key-", "fourth-key"]
    assert not any("api" in option.flag for option in OPTIONS)
    (tmp_path / "empty").write_text("\n")
    for environment in (
        {"OBERT_EDGE_API_KEY": ""},
        {"OBERT_EDGE_API_KEY": "short"},
        {"OBERT_EDGE_API_KEY_FILE": str(tmp_path / "nowhere")},
        {"OBERT_EDGE_API_KEY_FILE": str(tmp_path / "empty")},
    ):
        with pytest.raises(UsageError):
            api_keys(environment)


def test_sockets_that_a_service_manager_did_not_pass_are_an_error(tmp_path):
    me = str(os.getpid())
    assert _passed({"LISTEN_PID": "1", "LISTEN_FDS": "abc"}) == []  # meant for another process
    for given, said in (
        ("abc", "LISTEN_FDS is 'abc'; expected how many"),
        ("-1", "LISTEN_FDS is '-1'; expected how many"),
        ("1" * 5000, "expected how many"),
    ):
        with pytest.raises(UsageError, match=said) as refusal:
            _passed({"LISTEN_PID": me, "LISTEN_FDS": given})
        assert "unset LISTEN_PID and LISTEN_FDS" in refusal.value.hint


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: os.open(os.devnull, os.O_RDONLY), "file descriptor 3 is no socket"),
        (lambda: socket.socket().detach(), "file descriptor 3 is a socket that does not listen"),
    ],
)
def test_a_passed_file_that_is_no_listening_socket_is_said_so(make, said, embedder):
    number = make()
    command = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    words = [sys.executable, "-c", "from obert_edge.cli import main; main()", "serve", str(embedder)]
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command, "sh", *words],
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.dup2(number, 3),
            pass_fds=(3,),
        )
    finally:
        os.close(number)
    assert done.returncode == 2
    assert said in done.stderr and "fix: " in done.stderr and "Traceback" not in done.stderr


def refused(capsys, *arguments) -> str:
    code = cli.run_command(["serve", *map(str, arguments)])
    assert code in (1, 2)
    return capsys.readouterr().err


def test_bundles_and_places_that_cannot_be_served(capsys, tmp_path, embedder, classifier):
    assert "nowhere.oeb" in refused(capsys, "nowhere.oeb")
    assert "served as 'model'" in refused(capsys, f"model={embedder}", f"model={classifier}")
    assert "joke" in refused(capsys, embedder, "--prompt-name", "joke")
    (tmp_path / "file").write_text("")
    assert "no socket" in refused(capsys, embedder, "--uds", tmp_path / "file")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in refused(capsys, embedder, "--port", port)


def test_the_extra_is_named_where_it_is_missing(capsys, monkeypatch, embedder):
    monkeypatch.delitem(sys.modules, "obert_edge.serve.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'obert-edge[serve]'" in refused(capsys, embedder)
