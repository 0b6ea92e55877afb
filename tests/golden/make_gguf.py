"""GGUF files of some of the models here, so that their logits hold GGUF's names, keys and row order to account too.

    make_gguf.py            needs gguf (gguf-py), safetensors and numpy (PyPI); writes model.gguf beside model.safetensors

Names of keys and tensors come from gguf-py's tables. As llama.cpp's converter does, q and k rows of the llama
and smollm3 architectures are reordered for rotary pairs (2i, 2i+1), the llama3 scaling becomes one divisor a pair,
longrope's factors are tensors, and Gemma's norms hold 1 + weight.
"""

import json
import math
import pathlib
import re

import gguf
import numpy as np
from safetensors.numpy import load_file

MODELS = {"llama3_tied": "LLAMA", "qwen2_tied": "QWEN2", "qwen3": "QWEN3", "mixtral": "LLAMA",
          "qwen3_moe_every_layer": "QWEN3MOE", "gemma2": "GEMMA2", "gemma3": "GEMMA3", "olmo2": "OLMO2",
          "phi3_long": "PHI3", "phi3_window": "PHI3", "smollm3": "SMOLLM3", "gpt_oss": "GPT_OSS"}


def interleave(rows, n_heads):
    """Row (h, s*d/2 + i) of each head becomes row (h, 2i + s)."""
    return rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def llama3_divisors(rope, head_dim):
    """How much longer each wavelength becomes: 1 below the high frequencies, factor beyond the low, between in between."""
    divisors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        turns = rope["original_max_position_embeddings"] / wavelength
        low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
        smooth = min(max((turns - low) / (high - low), 0), 1)
        divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


def stack_experts(tensors):
    """The matrices of all experts of a layer become one tensor, as the converter names it: without the number."""
    out, stacks = {}, {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(.*\.experts)\.(\d+)\.(.*)", name)
        if match:
            stacks.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = tensor
        else:
            out[name] = tensor
    return out | {name: np.stack([stack[i] for i in range(len(stack))]) for name, stack in stacks.items()}


def add_tokenizer(writer, n):
    """Pieces without meaning, and the token that ends a turn, which no key names."""
    tokens = ["<pad>", "<bos>", "<eos>", "<unk>"] + [f"t{i}" for i in range(4, n)]
    types = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.UNKNOWN] + [gguf.TokenType.NORMAL] * (n - 4)
    tokens[107], types[107] = "<end_of_turn>", gguf.TokenType.CONTROL
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * n)
    writer.add_token_types(types)
    writer.add_add_space_prefix(False)


def unpack_mxfp4(tensors):
    """Experts in single precision, outputs first."""
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("_blocks"):
            name = name.removesuffix("_blocks")
            numbers = values[np.stack([tensor & 15, tensor >> 4], -1)].reshape(*tensor.shape[:-1], 32)
            scales = np.exp2(tensors[f"{name}_scales"].astype(np.float32) - 127)
            tensor = (numbers * scales[..., None]).reshape(*tensor.shape[:2], -1)
        if not name.endswith("_scales"):
            out[name] = tensor
    return out


def split_gate_and_up(tensors):
    """gpt-oss' rows of gate and up lie in turns in one tensor."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("sinks"):
            name += ".weight"
        match = re.fullmatch(r"(.*\.experts)\.(gate_up_proj|down_proj)(_bias)?", name)
        if not match:
            out[name] = tensor
            continue
        suffix = "bias" if match[3] else "weight"
        if match[2] == "down_proj":
            out[f"{match[1]}.down_proj.{suffix}"] = tensor
        else:
            out[f"{match[1]}.gate_proj.{suffix}"] = tensor[:, ::2]
            out[f"{match[1]}.up_proj.{suffix}"] = tensor[:, 1::2]
    return out


def make(folder, architecture):
    config = json.loads((folder / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    ropes = config["rope_parameters"]
    rope = ropes.get("full_attention", ropes)
    kind = gguf.MODEL_ARCH[architecture]
    writer = gguf.GGUFWriter(folder / "model.gguf", gguf.MODEL_ARCH_NAMES[kind])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    if architecture != "GEMMA2":
        writer.add_rope_dimension_count(int(head_dim * rope.get("partial_rotary_factor", 1)))
    writer.add_eos_token_id(config["eos_token_id"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, head_dim))
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        stretch = config["max_position_embeddings"] / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(stretch) / math.log(original)))
        for length in ["long", "short"]:
            writer.add_tensor(f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], np.float32))
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if architecture in ["GEMMA2", "GEMMA3", "PHI3", "GPT_OSS"]:
        writer.add_sliding_window(config["sliding_window"] or 0)
    if architecture == "GEMMA2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture == "GEMMA2":
        add_tokenizer(writer, config["vocab_size"])
    if architecture == "GEMMA3":  # the default is 6
        writer.add_sliding_window_pattern(1 + config["layer_types"].index("full_attention"))
    if "num_local_experts" in config:
        writer.add_expert_count(config["num_local_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        if architecture in ["QWEN3MOE", "GPT_OSS"]:
            writer.add_expert_feed_forward_length(config.get("moe_intermediate_size", config["intermediate_size"]))
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    tensors = unpack_mxfp4(load_file(folder / "model.safetensors"))
    for name, tensor in split_gate_and_up(stack_experts(tensors)).items():
        base, suffix = name.rsplit(".", 1)
        if architecture.startswith("GEMMA") and name.endswith("norm.weight"):
            tensor = tensor + np.float32(1)
        if architecture in ["LLAMA", "SMOLLM3"] and base.endswith(("q_proj", "k_proj")):
            tensor = interleave(tensor, heads if base.endswith("q_proj") else kv_heads)
        writer.add_tensor(f"{names.get_name(base)}.{suffix}", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


for model, family in MODELS.items():
    make(pathlib.Path(__file__).parent / model, family)
