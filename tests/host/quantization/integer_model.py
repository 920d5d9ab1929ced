"""docs/reference/numerics.md in plain numpy, with real integers; the fake-quantized modules must equal it."""

from __future__ import annotations

import numpy as np

f32 = np.float32


def quantize_rows(weight):
    largest = np.abs(weight).max(axis=-1, keepdims=True)
    scale = largest / f32(127)
    scale = np.where(scale > 0, scale, f32(1))
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int32), scale


def quantize_static(x, scale, zero_point, lo=0, hi=255):
    t = x * (f32(1) / f32(scale))
    return (np.rint(np.clip(t, f32(lo - zero_point), f32(hi - zero_point))) + zero_point).astype(np.int32)


def quantize_dynamic(x):
    """Codes int32, scale and zero point per row of ``x``."""
    low = np.minimum(f32(0), x.min(axis=-1, keepdims=True))
    high = np.maximum(f32(0), x.max(axis=-1, keepdims=True))
    span = high - low
    safe = np.where(span == 0, f32(1), span)
    scale = np.where(span == 0, f32(1), span * (f32(1) / f32(255)))
    inverse = f32(255) / safe
    zero_point = np.rint(np.clip((0 - low) * inverse, f32(0), f32(255))).astype(np.int32)
    t = x * inverse
    codes = (np.rint(np.clip(t, f32(0) - zero_point, f32(255) - zero_point)) + zero_point).astype(np.int32)
    empty = span == 0
    return np.where(empty, 0, codes), scale, np.where(empty, 0, zero_point)


def linear_static(x, scale, zero_point, weight, bias):
    codes = quantize_static(x, scale, zero_point)
    w, s_w = quantize_rows(weight)
    accumulated = codes @ w.T - zero_point * w.sum(1)
    return (accumulated * (f32(scale) * s_w[:, 0]).astype(np.float64) + bias).astype(f32)


def linear_dynamic(x, weight, bias):
    codes, scale, zero_point = quantize_dynamic(x)
    w, s_w = quantize_rows(weight)
    accumulated = (codes @ w.T - zero_point * w.sum(1)).astype(f32) * scale
    return (accumulated.astype(np.float64) * s_w[:, 0] + bias).astype(f32)


def attention(query, key, value, query_params, key_scale, value_scale, bias=0.0):
    """One head of one sequence; float ``[tokens, head_dim]`` in and out; bias ``[tokens, tokens]``."""
    query_scale, zero_point = query_params
    q = quantize_static(query, query_scale, zero_point) - zero_point
    k = quantize_static(key, key_scale, 0, -127, 127)
    v = quantize_static(value, value_scale, 0, -127, 127)
    scores = q @ k.T
    scale = np.float64(query_scale) * np.float64(key_scale) / np.sqrt(query.shape[1])
    biased = scores * scale + bias
    p = np.rint(np.exp(biased - biased.max(axis=1, keepdims=True)) * 255).astype(np.int64)
    return ((p @ v) * (np.float64(value_scale) / p.sum(axis=1, keepdims=True))).astype(f32)
