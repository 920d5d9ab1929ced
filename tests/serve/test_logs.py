"""The log has a line for a request, and no client can write lines of its own into it."""

from __future__ import annotations

import logging
import socket
import sys

import pytest

from obert_edge.serve.logs import LineFormatter, printable

FORGED = "2026-12-01 INFO faked"


@pytest.mark.parametrize("environment", [{}, {"OBERT_EDGE_API_KEY": "a-key-of-the-test"}])
def test_the_access_log_shows_a_path_as_it_was_sent(serving, embedder, environment):
    server = serving(embedder, "--access-log", environment=environment)
    with server.http() as http:
        http.get("/x%0a2026-12-01%20INFO%20faked%1b[31m")
        http.get("/" + "long" * 1000)
        http.get("/health")
    host, _, port = server.place.partition("//")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"GET /\xc2\x85\x9b31m HTTP/1.1\r\nConnection: close\r\n\r\n")
        while connection.recv(1000):
            pass
    status = 401 if environment else 404
    server.wait_for(rf"INFO GET /x%0a2026-12-01%20INFO%20faked%1b\[31m {status} ")
    assert server.wait_for(rf"INFO GET (/longlong\S+) {status} ")[1].endswith("...")
    server.wait_for("INFO GET /health 200 ")
    assert server.stop() == 0
    assert not any(line.startswith(FORGED) for line in server.lines)
    assert all(line.strip("\n").isprintable() for line in server.lines)


def test_what_is_no_printable_character_is_escaped():
    assert printable("paris, été 東京") == "paris, été 東京"
    assert printable("a\nb\x1b[31m\x85\ud800") == "a\\nb\\x1b[31m\\x85\\ud800"


def test_further_lines_of_a_record_are_indented():
    try:
        raise ValueError(f"odd\n{FORGED}\x1b[31m")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "a run failed", (), sys.exc_info())
    first, *others = LineFormatter("%(levelname)s %(message)s").format(record).split("\n")
    assert first == "ERROR a run failed"
    assert f"  {FORGED}\\x1b[31m" in others and all(line.startswith("  ") for line in others)
