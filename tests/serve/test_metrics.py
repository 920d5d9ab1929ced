"""Prometheus' own client library reads what the server counts."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text


def scrape(http, **headers):
    answer = http.get("/metrics", headers=headers)
    read = read_openmetrics if "openmetrics" in answer.headers["Content-Type"] else read_text
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in read(answer.text)
        for sample in family.samples
    }


def test_requests_tokens_batches_and_refusals_are_counted(serving, embedder):
    running = serving(f"model={embedder}")
    with running.http() as http:
        for text in ("the film", "is good"):
            assert http.post("/v1/embeddings", json={"input": text}).status_code == 200
        tokens = http.post("/v1/embeddings", json={"input": ["a", "a b"]}).json()["usage"]["total_tokens"]
        http.post("/v1/embeddings", content=b"{", headers={"Content-Type": "application/json"})
        http.get("/a/path/of/no/meaning")
        found = scrape(http)
        same = scrape(http, Accept="application/openmetrics-text; version=1.0.0")
    endpoint = ("endpoint", "/v1/embeddings")
    assert found["obert_edge_requests_total", endpoint, ("status", "200")] == 3
    assert found["obert_edge_requests_total", endpoint, ("status", "400")] == 1
    assert found["obert_edge_requests_total", ("endpoint", "other"), ("status", "404")] == 1
    assert found["obert_edge_refused_total", ("code", "invalid_json")] == 1
    assert found["obert_edge_request_seconds_count", endpoint] == 4
    assert found["obert_edge_texts_total", ("model", "model")] == 4
    assert found["obert_edge_tokens_total", ("model", "model")] == 8 + tokens
    assert found["obert_edge_batch_texts_count",] == 3
    assert found["obert_edge_batch_tokens_sum",] == 8 + tokens
    assert found["obert_edge_queue_requests",] == found["obert_edge_queue_tokens",] == 0
    assert found["process_resident_memory_bytes",] > 0
    assert any(name[0] == "obert_edge_model_info" and ("task", "encoder") in name for name in found)
    assert same["obert_edge_requests_total", endpoint, ("status", "200")] == 3
