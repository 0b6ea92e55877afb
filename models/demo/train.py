"""Trains the demo model, or its draft, on the tokens that prepare.py wrote, and exports Hugging Face files.

    python train.py demo  --data DIR --run DIR --tokens N [--export models/demo]
    python train.py draft --data DIR --run DIR --tokens N [--export models/demo/draft]

Training goes on from RUN/checkpoint.pt if there is one. The schedule depends on tokens seen over N alone, so a run that
resumes with another N only moves along the schedule; with an N that is reached
already and --workers 0 it only exports. Data order is seeded; sums of gradients depend on which
worker took which micro-batch, so two runs agree closely but not bit for bit.

Each of --workers processes runs forward and backward on one core, taking micro-batches from a shared counter: a core that
other programs keep busy delays nobody. Matrices are optimised by Muon (momentum made orthogonal by Newton-Schulz
iterations, Jordan et al. 2024), embeddings and scales by Adam.
"""
import argparse
import json
import os
import time

import numpy as np
import torch
import torch.multiprocessing as mp
from safetensors.torch import save_file

from llama import CONFIGS, NORM_EPS, ROPE_THETA, Llama

# Until which part of the training, positions a row, and the share of rows each source gets. The demo first reads, then
# learns to talk while it goes on reading; the draft has to guess what the demo says, so it starts there.
READ = {"tiny": 0.38, "simple_books": 0.39, "service": 0.15, "books": 0.08}
TALK = {"tiny": 0.05, "simple_books": 0.18, "books": 0.20, "service": 0.10, "stories": 0.07, "chats": 0.40}
PHASES = {"demo": [(0.287, 256, READ), (0.93, 256, TALK), (1.00, 1024, TALK)],
          "draft": [(0.90, 256, TALK), (1.00, 1024, TALK)]}
DECAY_FROM = {"demo": 0.45, "draft": 0.3}   # part of the training after which rates fall linearly to FINAL_RATE
FINAL_RATE = 0.03
MICRO_TOKENS = 1024
WARMUP_TOKENS = 200_000
MUON_RATE, MUON_MOMENTUM = 0.02, 0.95
ADAM_RATE, ADAM_BETAS = 0.004, (0.9, 0.95)
SEED = 1


class Stream:
    """An endless stream of one source: its documents in a new seeded order every epoch, cut into rows."""

    def __init__(self, data, source):
        self.tokens = np.load(os.path.join(data, source + ".tokens.npy"))
        self.offsets = np.load(os.path.join(data, source + ".offsets.npy"))
        self.source, self.epoch, self.at, self.order = source, 0, 0, None

    def row(self, n):
        if self.order is None:
            self.arrange()
        if self.at + n > len(self.order):
            self.epoch, self.at = self.epoch + 1, 0
            self.arrange()
        row = self.order[self.at:self.at + n]
        self.at += n - 1
        return row.astype(np.int64)

    def arrange(self):
        shuffled = np.random.default_rng([SEED, self.epoch, len(self.source)]).permutation(len(self.offsets) - 1)
        self.order = np.concatenate([self.tokens[self.offsets[i]:self.offsets[i + 1]] for i in shuffled])


class Mixture:
    def __init__(self, data):
        names = set(READ) | set(TALK)
        present = [n for n in sorted(names) if os.path.exists(os.path.join(data, n + ".tokens.npy"))]
        self.streams = {n: Stream(data, n) for n in present}

    def rows(self, shares, n_rows, n_positions, step):
        shares = {n: s for n, s in shares.items() if n in self.streams}
        names, weights = list(shares), np.array(list(shares.values()))
        chosen = np.random.default_rng([SEED, step]).choice(names, n_rows, p=weights / weights.sum())
        return torch.from_numpy(np.stack([self.streams[n].row(n_positions + 1) for n in chosen]))

    def state(self):
        return {n: (s.epoch, s.at) for n, s in self.streams.items()}

    def restore(self, state):
        for name, (epoch, at) in state.items():
            if name in self.streams:
                self.streams[name].epoch, self.streams[name].at = epoch, at


def flatten(model, values, grads):
    """Moves parameters and gradients into the flat shared buffers."""
    at = 0
    for p in model.parameters():
        n = p.numel()
        p.data = values[at:at + n].view(p.shape)
        p.grad = grads[at:at + n].view(p.shape)
        at += n


def orthogonal(matrices):
    """Newton-Schulz: [n, rows, cols] to about the nearest matrices with orthonormal rows or columns."""
    x = matrices.bfloat16()
    if tall := x.shape[1] > x.shape[2]:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Optimizer:
    def __init__(self, model):
        self.by_shape, self.others = {}, []
        for name, p in model.named_parameters():
            if p.dim() == 2 and "embed" not in name:
                self.by_shape.setdefault(tuple(p.shape), []).append(p)
            else:
                self.others.append(p)
        self.momentum = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.by_shape.items()}
        self.adam = torch.optim.Adam(self.others, lr=ADAM_RATE, betas=ADAM_BETAS, eps=1e-10)

    @torch.no_grad()
    def step(self, grads, rate):
        """grads maps a parameter to its mean gradient; rate is relative to the highest."""
        for shape, parameters in self.by_shape.items():
            grad = torch.stack([grads[p] for p in parameters])
            momentum = self.momentum[shape].lerp_(grad, 1 - MUON_MOMENTUM)
            update = orthogonal(grad.lerp(momentum, MUON_MOMENTUM))
            scale = MUON_RATE * rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for p, u in zip(parameters, update):
                p.mul_(1 - 0.05 * MUON_RATE * rate).sub_(u, alpha=scale)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * rate
        for p in self.others:
            p.grad = grads[p]
        self.adam.step()

    def state(self):
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def restore(self, state):
        self.momentum = state["momentum"]
        self.adam.load_state_dict(state["adam"])


def worker(rank, config, shared):
    """Takes micro-batches until the step has none left; runs until the batch is marked empty."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model = Llama(config)
    flatten(model, shared["values"], shared["grads"][rank])
    loss_of = torch.compile(model.loss, dynamic=False)
    while True:
        shared["start"].wait()
        if shared["n_micro"].value == 0:
            return
        while True:
            with shared["next"].get_lock():
                i = shared["next"].value
                shared["next"].value += 1
            if i >= shared["n_micro"].value:
                break
            n_positions = shared["n_positions"].value
            ids = shared["ids"][:, i].reshape(-1)[:MICRO_TOKENS // n_positions * (n_positions + 1)]
            loss = loss_of(ids.view(-1, n_positions + 1).clone())
            loss.backward()
            shared["losses"][i] = loss.item()
        shared["finish"].wait()


def phase_at(phases, progress):
    return next((p for p in phases if progress < p[0]), phases[-1])


def rate_at(tokens, total, decay_from):
    fall = (tokens / total - decay_from) / (1 - decay_from)
    return min(1.0, tokens / WARMUP_TOKENS) * (1 - (1 - FINAL_RATE) * min(1.0, max(0.0, fall)))


class Trainer:
    def __init__(self, options):
        self.options, self.config = options, CONFIGS[options.model]
        torch.manual_seed(SEED)
        self.model = Llama(self.config)
        n = sum(p.numel() for p in self.model.parameters())
        n_micro = options.batch // MICRO_TOKENS
        context = mp.get_context("spawn")
        self.shared = {
            "values": torch.cat([p.detach().reshape(-1) for p in self.model.parameters()]).share_memory_(),
            "grads": torch.zeros(options.workers, n).share_memory_(),
            "ids": torch.zeros(2 * MICRO_TOKENS, n_micro, dtype=torch.int64).share_memory_(),
            "losses": torch.zeros(n_micro).share_memory_(),
            "n_micro": context.Value("i", n_micro), "n_positions": context.Value("i", 0), "next": context.Value("i", 0),
            "start": context.Barrier(options.workers + 1), "finish": context.Barrier(options.workers + 1)}
        self.sum = torch.zeros(n)
        flatten(self.model, self.shared["values"], self.sum)
        self.grads = {p: p.grad for p in self.model.parameters()}
        self.optimizer, self.mixture = Optimizer(self.model), Mixture(options.data)
        self.n_steps = self.n_tokens = 0
        self.path = os.path.join(options.run, "checkpoint.pt")
        if os.path.exists(self.path):
            self.restore()
        self.workers = [context.Process(target=worker, args=(r, self.config, self.shared), daemon=True)
                        for r in range(options.workers)]
        for process in self.workers:
            process.start()

    def restore(self):
        state = torch.load(self.path)
        self.shared["values"].copy_(state["values"])
        self.optimizer.restore(state["optimizer"])
        self.mixture.restore(state["streams"])
        self.n_steps, self.n_tokens = state["n_steps"], state["n_tokens"]

    def save(self):
        state = {"values": self.shared["values"], "optimizer": self.optimizer.state(), "streams": self.mixture.state(),
                 "n_steps": self.n_steps, "n_tokens": self.n_tokens}
        torch.save(state, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def rate(self):
        return rate_at(self.n_tokens, self.options.tokens, DECAY_FROM[self.options.model])

    def step(self):
        _, n_positions, shares = phase_at(PHASES[self.options.model], self.n_tokens / self.options.tokens)
        n_micro = self.shared["n_micro"].value
        rows = self.mixture.rows(shares, n_micro * MICRO_TOKENS // n_positions, n_positions, self.n_steps)
        packed = rows.view(n_micro, -1).t()
        self.shared["ids"][:packed.shape[0]] = packed
        self.shared["n_positions"].value, self.shared["next"].value = n_positions, 0
        self.shared["grads"].zero_()
        self.shared["start"].wait()
        self.shared["finish"].wait()
        torch.sum(self.shared["grads"], 0, out=self.sum).div_(n_micro)
        self.optimizer.step(self.grads, self.rate())
        self.n_steps += 1
        self.n_tokens += n_micro * MICRO_TOKENS
        return self.shared["losses"].mean().item()

    def run(self):
        started, first, saved, recent = time.time(), self.n_tokens, time.time(), []
        while self.n_tokens < self.options.tokens and time.time() - started < self.options.seconds:
            recent.append(self.step())
            if self.n_steps % 20 == 0:
                line = {"step": self.n_steps, "tokens": self.n_tokens, "loss": round(float(np.mean(recent)), 4),
                        "tokens_per_s": round((self.n_tokens - first) / (time.time() - started)),
                        "rate": round(self.rate(), 3)}
                recent = []
                print(json.dumps(line), flush=True)
                with open(os.path.join(self.options.run, "curve.jsonl"), "a", encoding="utf-8") as f:
                    f.write(json.dumps(line) + "\n")
            if time.time() - saved > 120:
                self.save()
                saved = time.time()
        if self.n_tokens > first:
            self.save()
        self.shared["n_micro"].value = 0
        self.shared["start"].wait()


def hf_config(c):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "vocab_size": c["vocab"],
            "hidden_size": c["hidden"], "intermediate_size": c["mlp"], "num_hidden_layers": c["n_layers"],
            "num_attention_heads": c["n_heads"], "num_key_value_heads": c["n_kv_heads"], "head_dim": c["head_dim"],
            "max_position_embeddings": c["context"], "rope_theta": ROPE_THETA, "rope_scaling": None,
            "rms_norm_eps": NORM_EPS, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
            "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": [2, 0], "pad_token_id": 0}


def export(model, folder):
    os.makedirs(folder, exist_ok=True)
    tensors = {"model." + name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(hf_config(model.c), f, indent=2)
        f.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=list(CONFIGS))
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--tokens", type=int, required=True, help="tokens to see in all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop with a checkpoint after this time")
    parser.add_argument("--batch", type=int, default=8192, help="tokens a step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--export", help="folder for config.json and model.safetensors")
    options = parser.parse_args()
    os.makedirs(options.run, exist_ok=True)
    trainer = Trainer(options)
    trainer.run()
    if options.export:
        export(trainer.model, options.export)


if __name__ == "__main__":
    main()
