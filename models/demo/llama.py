"""The Llama architecture for training on a CPU: FP32 master weights, BF16 matrix products.

Shapes: B rows, T positions, H hidden, D head. Names of parameters are those of Hugging Face, so export is a cast.
"""
import torch
import torch.nn.functional as F
from torch import nn

CONFIGS = {
    "demo": dict(hidden=256, n_layers=7, n_heads=4, n_kv_heads=2, head_dim=64, mlp=704, vocab=4096, context=1024),
    "draft": dict(hidden=64, n_layers=5, n_heads=2, n_kv_heads=1, head_dim=32, mlp=160, vocab=4096, context=1024),
}
ROPE_THETA = 10000.0
NORM_EPS = 1e-5


def product(x, weight):
    return x @ weight.to(torch.bfloat16).t()


def norm(x, weight):
    return F.rms_norm(x, (x.shape[-1],), weight, NORM_EPS).to(torch.bfloat16)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def rope_tables(n_positions, head_dim):
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.outer(torch.arange(n_positions).float(), frequency)
    angle = torch.cat([angle, angle], -1)
    return angle.cos().bfloat16(), angle.sin().bfloat16()


class Linear(nn.Module):
    """Holds [n_out, n_in]; the products are written out where they are used."""

    def __init__(self, n_out, n_in):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))


class Scale(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.q_proj = Linear(c["n_heads"] * c["head_dim"], c["hidden"])
        self.k_proj = Linear(c["n_kv_heads"] * c["head_dim"], c["hidden"])
        self.v_proj = Linear(c["n_kv_heads"] * c["head_dim"], c["hidden"])
        self.o_proj = Linear(c["hidden"], c["n_heads"] * c["head_dim"])

    def forward(self, x, cos, sin, mask):
        # Written out with products, because the fused attention of PyTorch is slower backwards on a CPU at this size.
        b, t, _ = x.shape
        c = self.c
        group = c["n_heads"] // c["n_kv_heads"]
        q = product(x, self.q_proj.weight).view(b, t, c["n_heads"], -1).transpose(1, 2)
        k = product(x, self.k_proj.weight).view(b, t, c["n_kv_heads"], -1).transpose(1, 2)
        v = product(x, self.v_proj.weight).view(b, t, c["n_kv_heads"], -1).transpose(1, 2)
        q, k = rotate(q, cos[:t], sin[:t]), rotate(k, cos[:t], sin[:t])
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = (q @ k.transpose(-1, -2)).float() * c["head_dim"] ** -0.5 + mask[:t, :t]
        mixed = scores.softmax(-1).to(torch.bfloat16) @ v
        return product(mixed.transpose(1, 2).reshape(b, t, -1), self.o_proj.weight)


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = Linear(c["mlp"], c["hidden"])
        self.up_proj = Linear(c["mlp"], c["hidden"])
        self.down_proj = Linear(c["hidden"], c["mlp"])

    def forward(self, x):
        gate, up = product(x, self.gate_proj.weight), product(x, self.up_proj.weight)
        return product(F.silu(gate) * up, self.down_proj.weight)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm = Scale(c["hidden"])
        self.self_attn = Attention(c)
        self.post_attention_layernorm = Scale(c["hidden"])
        self.mlp = Mlp(c)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(norm(x, self.input_layernorm.weight), cos, sin, mask)
        return x + self.mlp(norm(x, self.post_attention_layernorm.weight))


class Llama(nn.Module):
    """Logits are the product with the embedding: the head is tied."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed_tokens = Linear(c["vocab"], c["hidden"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["n_layers"]))
        self.norm = Scale(c["hidden"])
        for name, p in self.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                nn.init.zeros_(p)       # each layer starts as the identity
            elif "embed" in name:
                nn.init.normal_(p, std=0.02)
            elif p.dim() == 2:
                nn.init.normal_(p, std=0.5 * p.shape[1] ** -0.5)
        cos, sin = rope_tables(c["context"], c["head_dim"])
        mask = torch.full((c["context"], c["context"]), -1e9).triu(1)
        for key, table in (("cos", cos), ("sin", sin), ("mask", mask)):
            self.register_buffer(key, table, persistent=False)

    def forward(self, ids):
        """ids [B, T] -> logits [B, T, vocab] in BF16."""
        x = F.embedding(ids, self.embed_tokens.weight)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, self.mask)
        return product(norm(x, self.norm.weight), self.embed_tokens.weight)

    def loss(self, ids):
        """Mean nats a token of ids[:, 1:] given what stands before; ids [B, T+1]."""
        logits = self(ids[:, :-1])
        return F.cross_entropy(logits.float().reshape(-1, self.c["vocab"]), ids[:, 1:].reshape(-1))
