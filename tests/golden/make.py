"""Tiny random models of every supported family, with the logits that Hugging Face transformers computes for them.

    make.py [FOLDER [NAME...]] needs torch and transformers (PyPI); writes one folder a model below FOLDER (default: here)
    make.py --given DATA       writes given/: logits of models in DATA/models that others made

Each folder holds config.json as transformers 5 writes it, config_transformers4.json with the same content in the spelling
of version 4, model.safetensors (float32), tokens.json (a list of ids) and logits.f32 (little-endian float32,
[len(tokens), vocab_size]: logits of every position in one causal pass, eager attention, float32, on the CPU).
"""

import json
import pathlib
import sys
import zlib

import torch
import transformers
from safetensors.torch import load_file, save_file

SEED, N_TOKENS = 20240607, 36
SHAPE = dict(vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
# Original contexts are short, so that 36 tokens pass them and every branch of the scaling shows.
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
# beta_slow puts one pair of dimensions inside the ramp.
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16, beta_slow=0.05)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=2.0)
LONG = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.3],
            long_factor=[1.5, 2.5, 3.75], original_max_position_embeddings=16)
# Gemma 3 rotates layers with a window differently from the others.
LOCAL_GLOBAL = dict(sliding_attention=dict(rope_type="default", rope_theta=10000.0),
                    full_attention=dict(rope_type="linear", rope_theta=1e6, factor=2.0))
GEMMA3 = dict(num_hidden_layers=4, head_dim=12, sliding_window=7, query_pre_attn_scalar=12, sliding_window_pattern=3,
              rope_parameters=LOCAL_GLOBAL)
VISION = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16,
              patch_size=8)

MODELS = {
    "llama2": ("Llama", dict(num_key_value_heads=4, tie_word_embeddings=False)),
    "llama3_tied": ("Llama", dict(rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "llama_linear_biases": ("Llama", dict(rope_parameters=LINEAR, attention_bias=True, mlp_bias=True)),
    "llama_yarn": ("Llama", dict(rope_parameters=YARN)),
    "mistral_window": ("Mistral", dict(sliding_window=7, head_dim=12)),
    "mistral_full": ("Mistral", dict(sliding_window=None, head_dim=6, num_key_value_heads=1)),
    "ministral_lower_window": ("Ministral", dict(sliding_window=7, head_dim=8,
                                                 layer_types=["sliding_attention", "full_attention"])),
    "qwen2_tied": ("Qwen2", dict(tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen2_upper_window": ("Qwen2", dict(use_sliding_window=True, sliding_window=5, max_window_layers=1,
                                         rope_parameters=YARN)),
    "qwen3": ("Qwen3", dict(head_dim=12, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "mixtral": ("Mixtral", dict(num_local_experts=5, num_experts_per_tok=2)),
    "mixtral_window": ("Mixtral", dict(num_local_experts=8, num_experts_per_tok=3, sliding_window=7)),
    "qwen3_moe": ("Qwen3Moe", dict(num_hidden_layers=4, head_dim=12, moe_intermediate_size=20, num_experts=6,
                                   num_experts_per_tok=2, norm_topk_prob=False, decoder_sparse_step=1,
                                   mlp_only_layers=[0, 2])),
    "qwen3_moe_sparse_step": ("Qwen3Moe", dict(num_hidden_layers=2, moe_intermediate_size=16, num_experts=9,
                                               num_experts_per_tok=4, norm_topk_prob=True, decoder_sparse_step=2)),
    "qwen3_moe_every_layer": ("Qwen3Moe", dict(moe_intermediate_size=32, num_experts=4, num_experts_per_tok=1,
                                               norm_topk_prob=True, tie_word_embeddings=True)),
    "qwen3_tied_biases": ("Qwen3", dict(head_dim=8, tie_word_embeddings=True, attention_bias=True)),
    # Caps small enough that tanh bends most values.
    "gemma2": ("Gemma2", dict(num_hidden_layers=3, head_dim=12, sliding_window=7, query_pre_attn_scalar=12,
                              attn_logit_softcapping=2.0, final_logit_softcapping=4.0)),
    "gemma3": ("Gemma3", GEMMA3),
    "gemma3_in_wrapper": ("Gemma3", dict(GEMMA3, query_pre_attn_scalar=24)),
    "phi3_window": ("Phi3", dict(sliding_window=9, pad_token_id=None)),
    "phi3_long": ("Phi3", dict(rope_parameters=LONG, original_max_position_embeddings=16, tie_word_embeddings=True,
                               pad_token_id=None)),
    "olmo2": ("Olmo2", dict(rope_parameters=dict(rope_type="default", rope_theta=5e5))),
    "olmo2_biases": ("Olmo2", dict(attention_bias=True, tie_word_embeddings=True, num_key_value_heads=1)),
    "gpt_oss": ("GptOss", dict(num_hidden_layers=3, head_dim=12, sliding_window=7, num_local_experts=5,
                               num_experts_per_tok=2, intermediate_size=64, rope_parameters=dict(YARN, truncate=False))),
    "smollm3": ("SmolLM3", dict(num_hidden_layers=5, pad_token_id=None)),
    "smollm3_listed": ("SmolLM3", dict(no_rope_layers=[0, 1], attention_bias=True, mlp_bias=True,
                                       tie_word_embeddings=False, pad_token_id=None)),
}


def randomise(model, generator):
    """Weights large enough that attention is far from uniform and every tensor leaves its mark on the logits."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("gate_up_proj"):  # so that many values are beyond the clamps at 7
                weight.copy_(noise * 6 / weight.shape[-2] ** 0.5)
            elif name.endswith("sinks"):
                weight.copy_(noise)
            elif weight.ndim > 1:  # experts are stacked
                weight.copy_(noise * 1.5 / weight.shape[-1] ** 0.5)
            elif name.endswith("bias"):
                weight.copy_(noise * 0.4)
            else:  # Gemma's norms multiply by 1 + weight
                weight.copy_(0.3 * noise + (0 if "Gemma" in type(model).__name__ else 1))


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def mxfp4_parts(weight):
    """Blocks and scales of [E, inputs, outputs] as gpt-oss is published, outputs first, and what they stand for."""
    groups = weight.transpose(1, 2).unflatten(-1, (-1, 32))
    exponent = torch.floor(torch.log2(groups.abs().amax(-1, keepdim=True))) - 2
    scaled = groups / 2**exponent
    code = (scaled.abs().unsqueeze(-1) - E2M1).abs().argmin(-1)
    exact = (E2M1[code] * scaled.sign() * 2**exponent).flatten(-2).transpose(1, 2)
    code += 8 * (scaled < 0)
    return (code[..., ::2] + 16 * code[..., 1::2]).byte(), (exponent.squeeze(-1) + 127).byte(), exact


def round_experts(model):
    """To numbers that MXFP4 can hold."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
                weight.copy_(mxfp4_parts(weight)[2])


def store_mxfp4(folder):
    """What `round_experts` has rounded is stored as blocks and scales, and the configuration says so."""
    tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensors[f"{name}_blocks"], tensors[f"{name}_scales"], exact = mxfp4_parts(weight)
            assert torch.equal(exact, weight)
        else:
            tensors[name] = weight
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def spell_as_version_4(config):
    """rope_theta and rope_scaling instead of rope_parameters, torch_dtype instead of dtype."""
    config = dict(config)
    family = config["model_type"]
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.51.3"
    if "text_config" in config:
        config["text_config"] = spell_as_version_4(config["text_config"])
        return config
    rope = dict(config.pop("rope_parameters"))
    if family == "gemma3_text":
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        config["sliding_window_pattern"] = config.pop("_sliding_window_pattern", GEMMA3["sliding_window_pattern"])
        rope = dict(rope["full_attention"])
    if family == "phi3":
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        config["original_max_position_embeddings"] = rope.pop("original_max_position_embeddings", 64)
    if family == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    if family != "ministral":  # there is nothing else that says which layers have the window
        config.pop("layer_types", None)
    return config


def open_model(name, family, options):
    """A language model of this family, inside a model that also sees images where the name says so."""
    text_config = {"Gemma3": "Gemma3TextConfig"}.get(family, f"{family}Config")
    config = getattr(transformers, text_config)(**{**SHAPE, **options})
    if not name.endswith("_in_wrapper"):
        config._attn_implementation = "eager"
        return getattr(transformers, f"{family}ForCausalLM")(config)
    config = getattr(transformers, f"{family}Config")(text_config=config, vision_config=VISION)
    config._attn_implementation = "eager"
    return getattr(transformers, f"{family}ForConditionalGeneration")(config)


def make(name, family, options, folder):
    model = open_model(name, family, options).eval().float()
    generator = torch.Generator().manual_seed(SEED + zlib.crc32(name.encode()))
    randomise(model, generator)
    if family == "GptOss":
        round_experts(model)
    tokens = torch.randint(3, SHAPE["vocab_size"], (N_TOKENS,), generator=generator).tolist()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    if family == "GptOss":
        store_mxfp4(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    (folder / "logits.f32").write_bytes(logits.float().numpy().astype("<f4").tobytes())
    if "original_max_position_embeddings" in options:  # up to there, other frequencies hold
        n = options["original_max_position_embeddings"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens[:n]])).logits[0]
        (folder / "logits_short.f32").write_bytes(logits.float().numpy().astype("<f4").tobytes())
    written = json.loads((folder / "config.json").read_text())
    (folder / "config_transformers4.json").write_text(json.dumps(spell_as_version_4(written), indent=2) + "\n")
    print(f"{name}: logits from {logits.min():.2f} to {logits.max():.2f}")


def make_given(name, data, folder):
    """Logits of a model that others made, which lies in `data`/models."""
    model = transformers.AutoModelForCausalLM.from_pretrained(data / "models" / name, dtype=torch.float32,
                                                              attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(SEED)
    tokens = torch.randint(3, model.config.vocab_size, (N_TOKENS,), generator=generator).tolist()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    (folder / "logits.f32").write_bytes(logits.float().numpy().astype("<f4").tobytes())


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--given":  # the folder with the data that tests share
        root = pathlib.Path(__file__).parent / "given"
        return make_given("tiny_random/tiny_gemma3", pathlib.Path(sys.argv[2]), root / "tiny_gemma3")
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    torch.set_num_threads(1)
    for name, (family, options) in MODELS.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        make(name, family, options, root / name)


main()
