"""Greedy text of quantised GGUF files, by an implementation that shares nothing with the product.

    make_quantized.py MODEL.gguf EXPECTED.json OUT.json

The weights are dequantised by gguf-py (PyPI `gguf`), the forward pass is numpy in float32. Prompts come from EXPECTED.json
(its cases' prompt_ids); OUT.json has the same form. min_gap is the smallest distance between the best and the second
logit on the way: it says how much rounding the comparison can bear.
"""

import json
import sys

import gguf
import numpy as np


def load(path):
    reader = gguf.GGUFReader(path)

    def number(key):
        return float(reader.fields[key].parts[-1][0])

    weights = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    shape = {
        "layers": int(number("llama.block_count")),
        "heads": int(number("llama.attention.head_count")),
        "kv_heads": int(number("llama.attention.head_count_kv")),
        "eps": np.float32(number("llama.attention.layer_norm_rms_epsilon")),
        "theta": number("llama.rope.freq_base") if "llama.rope.freq_base" in reader.fields else 10000.0,
    }
    return weights, shape


def norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotate(x, theta):
    """Interleaved pairs: GGUF stores the rows of q and k of this architecture permuted for them. x: [T, heads, d]"""
    n, _, d = x.shape
    angle = np.arange(n)[:, None] * theta ** (-np.arange(0, d, 2) / d)[None, :]
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out.astype(np.float32)


def forward(weights, shape, ids):
    x = weights["token_embd.weight"][ids]
    n, width = x.shape
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    d = width // heads
    mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
    for layer in range(shape["layers"]):
        w = {k.split(".", 2)[2]: v for k, v in weights.items() if k.startswith(f"blk.{layer}.")}
        h = norm(x, w["attn_norm.weight"], shape["eps"])
        q = rotate((h @ w["attn_q.weight"].T).reshape(n, heads, d), shape["theta"])
        k = rotate((h @ w["attn_k.weight"].T).reshape(n, kv_heads, d), shape["theta"])
        v = (h @ w["attn_v.weight"].T).reshape(n, kv_heads, d)
        k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.float32(np.sqrt(d)) + mask
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", p, v).reshape(n, width) @ w["attn_output.weight"].T
        h = norm(x, w["ffn_norm.weight"], shape["eps"])
        gate = h @ w["ffn_gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["ffn_up.weight"].T)) @ w["ffn_down.weight"].T
    x = norm(x[-1], weights["output_norm.weight"], shape["eps"])
    return weights.get("output.weight", weights["token_embd.weight"]) @ x


def main():
    weights, shape = load(sys.argv[1])
    cases = []
    for case in json.load(open(sys.argv[2]))["cases"]:
        ids, gap = list(case["prompt_ids"]), np.inf
        while len(ids) < len(case["ids"]):
            logits = forward(weights, shape, np.array(ids))
            second, best = np.sort(logits)[-2:]
            gap = min(gap, float(best - second))
            ids.append(int(np.argmax(logits)))
        cases.append({"prompt_ids": case["prompt_ids"], "ids": ids, "min_gap": gap})
    with open(sys.argv[3], "w") as out:
        json.dump({"engine": "numpy float32 forward on weights dequantised by gguf-py", "cases": cases}, out)
        out.write("\n")


if __name__ == "__main__":
    main()
