"""Tiny models in the forms in which quantised checkpoints are published, with the logits of what they hold.

    make_checkpoints.py [NAME...]    needs torch, transformers, safetensors, numpy and gguf (PyPI); writes quantised/NAME/

The weights of a small Qwen3 are quantised to the nearest, packed as the writers of each form do it (AutoAWQ, AutoGPTQ,
GPTQModel, compressed-tensors, DeepSeek's FP8; GGUF by gguf-py, or drawn at random where it has no quantiser), and
dequantised here by the formula of the form, in float32. logits.f32 are those of transformers with the dequantised
weights. projections.json has, for every matrix of the layers, W p in double precision with p[k] = (37 k mod 101 - 50) / 50.
"""

import json
import pathlib
import shutil
import sys
import zlib

import gguf
import numpy as np
import safetensors.torch
import torch
import transformers

SEED, N_TOKENS = 20240607, 24
SHAPE = dict(vocab_size=96, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4,
             num_key_value_heads=2, head_dim=32, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
             tie_word_embeddings=False)
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
AWQ = dict(quant_method="awq", bits=4, group_size=64, zero_point=True, version="gemm", modules_to_not_convert=None)
GPTQ = dict(quant_method="gptq", bits=4, group_size=32, desc_act=False, sym=False, damp_percent=0.1)
FP8 = dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic")


def f16(x):
    return x.astype(np.float16).astype(np.float32)


def bf16(x):
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch.bfloat16)


def fp8(x):
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch.float8_e4m3fn)


def words(values, bits, axis, order=None):
    """32-bit words of neighbours along an axis, the first in the lowest bits; padded with zeros."""
    n = 32 // bits
    values = np.moveaxis(np.asarray(values, np.int64), axis, -1)
    pad = -values.shape[-1] % n
    values = np.concatenate([values, np.zeros((*values.shape[:-1], pad), np.int64)], -1)
    values = values.reshape(*values.shape[:-1], -1, n)[..., order or list(range(n))]
    packed = sum(values[..., j].astype(np.uint64) << np.uint64(j * bits) for j in range(n)).astype(np.uint32)
    return np.ascontiguousarray(np.moveaxis(packed, -1, axis)).view(np.int32)


def integers(w, bits, group_of, symmetric, rounded):
    """Unsigned codes [out, in], scales and zero points [out, groups], and what they stand for."""
    n_groups, top = group_of.max() + 1, 2**bits - 1
    scales = np.zeros((w.shape[0], n_groups), np.float32)
    zeros = np.full((w.shape[0], n_groups), 2 ** (bits - 1), np.int64)
    for g in range(n_groups):
        part = w[:, group_of == g]
        if symmetric:
            scales[:, g] = np.abs(part).max(1) / (2 ** (bits - 1) - 1)
        else:
            low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
            scales[:, g] = (high - low) / top
            zeros[:, g] = np.clip(np.round(-low / scales[:, g]), 1, top)
    scales = rounded(scales)
    codes = np.clip(np.round(w / scales[:, group_of]) + zeros[:, group_of], 0, top).astype(np.int64)
    return codes, scales, zeros, ((codes - zeros[:, group_of]) * scales[:, group_of]).astype(np.float32)


def awq(x, w, config):
    group_of = np.arange(w.shape[1]) // config["group_size"]
    codes, scales, zeros, values = integers(w, 4, group_of, False, f16)
    return {f"{x}.qweight": words(codes.T, 4, 1, AWQ_ORDER), f"{x}.qzeros": words(zeros.T, 4, 1, AWQ_ORDER),
            f"{x}.scales": scales.T.astype(np.float16)}, values


def gptq(x, w, config):
    bits, group = config["bits"], config["group_size"] if config["group_size"] > 0 else w.shape[1]
    group_of = np.arange(w.shape[1]) // group
    if config["desc_act"]:
        np.random.default_rng(zlib.crc32(x.encode())).shuffle(group_of)
    codes, scales, zeros, values = integers(w, bits, group_of, config["sym"], f16)
    stored = zeros if config.get("checkpoint_format") == "gptq_v2" else (zeros - 1) % 2**bits
    return {f"{x}.qweight": words(codes.T, bits, 0), f"{x}.qzeros": words(stored.T, bits, 1),
            f"{x}.scales": scales.T.astype(np.float16), f"{x}.g_idx": group_of.astype(np.int32),
            f"{x}.bias": np.zeros(w.shape[0], np.float16)}, values


def compressed(x, w, config):
    scheme = config["config_groups"]["group_0"]["weights"]
    bits, symmetric = scheme["num_bits"], scheme["symmetric"]
    if scheme["type"] == "float":
        return compressed_float(x, w, scheme)
    group = scheme.get("group_size") or w.shape[1]
    group_of = np.arange(w.shape[1]) // group
    if scheme.get("actorder") == "group":
        np.random.default_rng(zlib.crc32(x.encode())).shuffle(group_of)
    codes, scales, zeros, values = integers(w, bits, group_of, symmetric, lambda s: bf16(s).float().numpy())
    out = {f"{x}.weight_scale": bf16(scales)}
    if scheme.get("actorder") == "group":
        out[f"{x}.weight_g_idx"] = group_of.astype(np.int32)
    if config["format"] == "int-quantized":
        out[f"{x}.weight"] = (codes - 128).astype(np.int8)
        return out | ({} if symmetric else {f"{x}.weight_zero_point": (zeros - 128).astype(np.int8)}), values
    out |= {f"{x}.weight_packed": words(codes, bits, 1), f"{x}.weight_shape": np.array(w.shape, np.int64)}
    return out | ({} if symmetric else {f"{x}.weight_zero_point": words(zeros, bits, 0)}), values


def compressed_float(x, w, scheme):
    scales = np.abs(w).max(1, keepdims=True) / 448 if scheme["strategy"] == "channel" else np.abs(w).max().reshape(1) / 448
    scales = bf16(scales).float().numpy()
    codes = fp8(w / scales)
    return {f"{x}.weight": codes, f"{x}.weight_scale": bf16(scales)}, codes.float().numpy() * scales


def fp8_blocks(x, w, config):
    if not config.get("weight_block_size"):
        scale = np.float32(np.abs(w).max() / 448)
        codes = fp8(w / scale)
        return {f"{x}.weight": codes, f"{x}.weight_scale": np.array(scale), f"{x}.input_scale": np.array(np.float32(1))}, \
            codes.float().numpy() * scale
    rows, cols = (-(-n // 128) for n in w.shape)
    scales = np.array([[np.abs(w[128 * i:128 * i + 128, 128 * j:128 * j + 128]).max() / 448 for j in range(cols)]
                       for i in range(rows)], np.float32)
    spread = np.kron(scales, np.ones((128, 128), np.float32))[: w.shape[0], : w.shape[1]]
    codes = fp8(w / spread)
    return {f"{x}.weight": codes, f"{x}.weight_scale_inv": scales}, codes.float().numpy() * spread


def scheme(format, **weights):
    weights = dict(num_bits=8, type="int", symmetric=True, strategy="channel", group_size=None) | weights
    return dict(quant_method="compressed-tensors", format=format, quantization_status="compressed", ignore=["lm_head"],
                config_groups=dict(group_0=dict(targets=["Linear"], weights=weights, input_activations=None)))


CHECKPOINTS = {
    "awq": (awq, AWQ, {}),
    "gptq": (gptq, GPTQ, {}),
    "gptq_symmetric": (gptq, dict(GPTQ, sym=True, group_size=128), {}),
    "gptq_v2_act_order": (gptq, dict(GPTQ, desc_act=True, checkpoint_format="gptq_v2"), {}),
    "gptq_8_bits": (gptq, dict(GPTQ, bits=8, group_size=-1), {}),
    "packed": (compressed, scheme("pack-quantized", num_bits=4, strategy="group", group_size=128), {}),
    "packed_zeros": (compressed, scheme("pack-quantized", num_bits=4, strategy="group", group_size=32, symmetric=False), {}),
    "packed_act_order": (compressed, scheme("pack-quantized", num_bits=4, strategy="group", group_size=32,
                                            actorder="group"), {}),
    "packed_8_bits": (compressed, scheme("pack-quantized"), {}),
    "int8": (compressed, scheme("int-quantized"), dict(intermediate_size=160)),
    "int8_zeros": (compressed, scheme("int-quantized", symmetric=False), {}),
    "fp8_channels": (compressed, scheme("float-quantized", type="float"), dict(intermediate_size=160)),
    "fp8_tensors": (fp8_blocks, FP8, {}),
    "fp8_blocks": (fp8_blocks, dict(FP8, weight_block_size=[128, 128]), dict(intermediate_size=160)),
}


def random_blocks(kind, n_rows, n_cols, generator):
    """Blocks of random codes whose scales make values of about the size that the model has."""
    block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    data = generator.integers(0, 256, (n_rows, n_cols // block, n_bytes), np.uint8)
    scales = {"Q4_K": [(0, 2e-4), (2, 1e-3)], "Q5_K": [(0, 1e-4), (2, 1e-3)], "Q6_K": [(208, 1e-4)],
              "IQ4_XS": [(0, 1e-4)], "IQ4_NL": [(0, 2e-3)]}[kind.name]
    for at, size in scales:
        d = (size * generator.uniform(0.5, 1, (n_rows, n_cols // block, 1))).astype(np.float16)
        data[..., at:at + 2] = d.view(np.uint8)
    return data.reshape(n_rows, -1)


# The kinds of q, k, v, o, gate, up, down and of the embedding.
GGUFS = {
    "gguf_k": ("Q4_K Q4_K Q6_K Q5_K IQ4_XS Q4_K Q6_K Q6_K", dict(hidden_size=256, num_attention_heads=8)),
    "gguf_small": ("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4 Q5_1", {}),
}
MATRICES = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
            "mlp.down_proj"]


def quantise_gguf(kinds, state, config, path):
    kind = gguf.MODEL_ARCH.QWEN3
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[kind])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(1)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    names = gguf.get_tensor_name_map(kind, 1)
    chosen = dict(zip([f"model.layers.0.{m}.weight" for m in MATRICES] + ["model.embed_tokens.weight"], kinds.split()))
    generator = np.random.default_rng(SEED)
    for name, tensor in state.items():
        base, suffix = name.rsplit(".", 1)
        to = f"{names.get_name(base)}.{suffix}"
        if name not in chosen:
            writer.add_tensor(to, tensor)
            continue
        form = gguf.GGMLQuantizationType[chosen[name]]
        try:
            blocks = gguf.quants.quantize(tensor, form)
        except NotImplementedError:
            blocks = random_blocks(form, *tensor.shape, generator)
        writer.add_tensor(to, blocks, raw_dtype=form)
        state[name] = gguf.quants.dequantize(blocks, form).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def open_model(name, options):
    config = transformers.Qwen3Config(**{**SHAPE, **options})
    config._attn_implementation = "eager"
    model = transformers.Qwen3ForCausalLM(config).eval().float()
    generator = torch.Generator().manual_seed(SEED + zlib.crc32(name.encode()))
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * 1.5 / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 1 + 0.3 * noise)
            weight.copy_(weight.half().float())  # what stays unquantised is stored so
    return model, torch.randint(3, SHAPE["vocab_size"], (N_TOKENS,), generator=generator).tolist()


def finish(folder, model, state, tokens):
    model.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in state.items()})
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
    projections = {}
    for name in MATRICES:
        w = state[f"model.layers.0.{name}.weight"].astype(np.float64)
        projections[name] = (w @ ((np.arange(w.shape[1]) * 37 % 101 - 50) / 50)).tolist()
    (folder / "projections.json").write_text(json.dumps(projections) + "\n")
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    (folder / "logits.f32").write_bytes(logits.numpy().astype("<f4").tobytes())
    print(f"{folder.name}: logits from {logits.min():.2f} to {logits.max():.2f}")


def make(name, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    quantise, quantization, options = CHECKPOINTS.get(name) or (None, *GGUFS[name])
    model, tokens = open_model(name, options)
    config = model.config.to_dict() | dict(architectures=["Qwen3ForCausalLM"], dtype="float16")
    state = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    if not quantise:
        quantise_gguf(quantization, state, config, folder / "model.gguf")
        return finish(folder, model, state, tokens)
    stored = {key: value.astype(np.float16) for key, value in state.items()}
    for matrix in MATRICES:
        x = f"model.layers.0.{matrix}"
        tensors, state[f"{x}.weight"] = quantise(x, state[f"{x}.weight"], quantization)
        del stored[f"{x}.weight"]
        stored |= tensors
    as_torch = {key: x if torch.is_tensor(x) else torch.from_numpy(np.array(x)) for key, x in stored.items()}
    safetensors.torch.save_file({key: x.contiguous() for key, x in as_torch.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | dict(quantization_config=quantization), indent=2) + "\n")
    finish(folder, model, state, tokens)


def main():
    torch.set_num_threads(1)
    root = pathlib.Path(__file__).parent / "quantised"
    for name in sys.argv[1:] or [*CHECKPOINTS, *GGUFS]:
        make(name, root / name)


main()
