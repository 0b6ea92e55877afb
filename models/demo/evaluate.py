"""Measures the exported demo model on held-out documents against a 5-gram model of the same data, and prints samples.

    python evaluate.py --data DIR [--model FOLDER]

Bits per byte: the negative log2 probability of all tokens of the held-out documents, their end included, over the UTF-8
bytes of the documents. Both models read the same tokens. The 5-gram is interpolated Kneser-Ney with one discount an
order, d = n1 / (n1 + 2 n2), estimated from every training document of the simple sources and from the first
MAX_TOKENS of the others, which is at least what the demo model saw of each.
"""
import argparse
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

from llama import CONFIGS, Llama

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = ["tiny", "stories", "chats", "simple_books", "service", "books"]
MAX_TOKENS = 2_000_000
MAX_HELD_OUT = 40_000
BITS, ORDER = 12, 5     # five token ids of 12 bits are one 64-bit key
PROMPTS = ["Hello!", "Who are you?", "Tell me a story about a cat.", "Tell me a story about a little boat.", "What is 3 + 4?",
           "What is the opposite of big?", "What colour is snow?", "Name three animals.", "Why is the sky blue?",
           "What is the weather today?", "Tom the boy has a red ball and is in the park. Anna the girl has a blue kite and is by the river. Where is Anna?",
           "What rhymes with cat?", "I am sad.", "What is the capital of France?", "Tell me a story."]


def keys_of(tokens, n):
    """Key i holds tokens i-n+1 .. i, the newest in the lowest bits; before the first stands <|endoftext|>, id 0."""
    padded = np.concatenate([np.zeros(n - 1, dtype=np.int64), tokens.astype(np.int64)])
    keys = np.zeros(len(tokens), dtype=np.int64)
    for i in range(n):
        keys = (keys << BITS) | padded[i:i + len(tokens)]
    return keys


class KneserNey:
    def __init__(self, tokens):
        self.orders = {}
        keys, counts = np.unique(keys_of(tokens, ORDER), return_counts=True)
        for n in range(ORDER, 0, -1):
            contexts, first, types = np.unique(keys >> BITS, return_index=True, return_counts=True)
            totals = np.add.reduceat(counts, first)
            n1, n2 = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
            self.orders[n] = (keys, counts, contexts, totals, types, n1 / (n1 + 2 * n2) if n1 else 0.0)
            # A lower order counts in how many different contexts its n-gram follows.
            keys, counts = np.unique(keys & ((1 << (BITS * (n - 1))) - 1), return_counts=True)

    def nats(self, tokens):
        p = np.full(len(tokens), 1 / (1 << BITS))
        for n in range(1, ORDER + 1):
            keys, counts, contexts, totals, types, discount = self.orders[n]
            wanted = keys_of(tokens, n)
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            count = np.where(keys[at] == wanted, counts[at], 0)
            at = np.minimum(np.searchsorted(contexts, wanted >> BITS), len(contexts) - 1)
            seen = contexts[at] == wanted >> BITS
            backed = (np.maximum(count - discount, 0) + discount * types[at] * p) / totals[at]
            p = np.where(seen, backed, p)
        return -np.log(p).sum()


def load(folder):
    model = Llama(CONFIGS["draft" if os.path.basename(folder.rstrip("/")) == "draft" else "demo"])
    model.load_state_dict({k.removeprefix("model."): v for k, v in load_file(os.path.join(folder, "model.safetensors")).items()})
    return model.eval()


def held_out(data, source):
    """Whole documents of the held-out part, up to MAX_HELD_OUT tokens, and their bytes."""
    tokenizer = Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
    tokens = np.load(os.path.join(data, source + ".heldout.tokens.npy"))
    offsets = np.load(os.path.join(data, source + ".heldout.offsets.npy"))
    n = max(1, int(np.searchsorted(offsets, MAX_HELD_OUT, side="right")) - 1)
    documents = [tokens[offsets[i]:offsets[i + 1]] for i in range(n)]
    return documents, sum(len(tokenizer.decode(d[:-1].tolist(), skip_special_tokens=False).encode()) for d in documents)


@torch.no_grad()
def model_nats(model, documents):
    total = 0.0
    for document in documents:
        ids = torch.from_numpy(np.concatenate([[0], document]).astype(np.int64))
        for i in range(0, len(ids) - 1, model.c["context"]):
            row = ids[i:i + model.c["context"] + 1]
            n = len(row) - 1
            # Padded behind the end, which a causal model does not see, because every new shape costs a set-up.
            logits = model(F.pad(row[:-1], (0, -n % 128))[None])[0, :n]
            total += F.cross_entropy(logits.float(), row[1:], reduction="sum").item()
    return total


@torch.no_grad()
def reply(model, tokenizer, text, n_max=300):
    """The greedy reply to one message, and whether the turn ended by itself."""
    ids = tokenizer.encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False).ids
    start = len(ids)
    while len(ids) - start < n_max:
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] in (0, 2):
            return tokenizer.decode(ids[start:-1]), True
    return tokenizer.decode(ids[start:]), False


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default=HERE)
    options = parser.parse_args()
    torch.set_num_threads(1)    # products of this size cost less than waking a second thread for them
    model, tokenizer = load(options.model), Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
    for text in PROMPTS:
        answer, ended = reply(model, tokenizer, text)
        print(json.dumps({"user": text, "assistant": answer, "ended": ended}), flush=True)
    train = [np.load(os.path.join(options.data, s + ".tokens.npy"))[:None if s in ("stories", "chats", "simple_books") else MAX_TOKENS] for s in SOURCES]
    ngram = KneserNey(np.concatenate(train))
    sums = np.zeros(4)
    for source in SOURCES:
        documents, n_bytes = held_out(options.data, source)
        n_tokens = sum(map(len, documents))
        row = np.array([model_nats(model, documents), ngram.nats(np.concatenate(documents)), n_bytes, n_tokens])
        sums += row
        report(source, row)
    report("all", sums)


def report(source, row):
    nats, ngram_nats, n_bytes, n_tokens = row
    bits = np.log(2) * n_bytes
    print(f"{source:13} {n_tokens:7.0f} tokens  demo {nats / bits:.3f}  5-gram {ngram_nats / bits:.3f} bits a byte,"
          f"  perplexity {np.exp(nats / n_tokens):.2f} and {np.exp(ngram_nats / n_tokens):.2f} a token", flush=True)


if __name__ == "__main__":
    main()
