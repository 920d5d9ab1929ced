"""The device side: sessions, tokenizers, tasks, benchmarks. Needs numpy only."""
