"""Writes perplexity.json: perplexities of texts and tokens that transformers computes, in both ways of cutting windows.

    make_perplexity.py [STORIES]     (needs torch and transformers; STORIES: stories260K as a Hugging Face folder)

"transformers" is the loop of its guide to perplexity of models with fixed length; "llama.cpp" scores the second halves of
windows that follow each other, each behind the beginning of text if the tokenizer adds one. All in float32 on the CPU.
"""

import json
import math
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = """Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her dog.
One day, Lily saw a big red ball on the grass. "Can I play with the ball?" she asked her mom.
Her mom smiled and said, "Yes, you can, but be careful." Lily ran to the ball and kicked it very high.
The dog ran after the ball and brought it back. They played all day long, and then they went home.
At night, Lily was very tired. She ate her soup, hugged the dog and went to sleep. She was happy.
"""


@torch.no_grad()
def nats(model, ids, n_scored):
    """The summed negative logprobs of the last n_scored of ids."""
    logprobs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return -sum(logprobs[i - 1, ids[i]].item() for i in range(len(ids) - n_scored, len(ids)))


def sliding(model, ids, window, stride):
    total, n, before = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        n_scored = min(end - before, end - begin - 1)
        total += nats(model, ids[begin:end], n_scored)
        n += n_scored
        before = end
        if end == len(ids):
            break
    return math.exp(total / n), n


def halves(model, ids, window, bos):
    total, n = 0.0, 0
    for begin in range(0, len(ids) - window + 1, window):
        piece = ([bos] if bos is not None else ids[begin:begin + 1]) + ids[begin + 1:begin + window]
        n_scored = window - window // 2 - 1
        total += nats(model, piece, n_scored)
        n += n_scored
    return math.exp(total / n), n


def cases_of(name, folder, ids, bos, windows):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for window, stride in windows:
        perplexity, n = sliding(model, ids, window, stride) if stride else halves(model, ids, window, bos)
        yield {"model": name, "as": "transformers" if stride else "llama.cpp", "window": window, "stride": stride,
               "tokens": len(ids), "tokens_scored": n, "perplexity": round(perplexity, 6)}


def main():
    torch.set_num_threads(1)
    cases = []
    for name in ("llama2", "qwen3"):
        with open(os.path.join(HERE, name, "tokens.json")) as f:
            ids = json.load(f)
        cases += cases_of(name, os.path.join(HERE, name), ids, None,
                          [(36, 18), (16, 6), (10, 10), (16, 1), (12, 0), (9, 0)])
    texts = {"demo": os.path.join(HERE, "..", "..", "models", "demo")}
    if len(sys.argv) > 1:
        texts["stories260K"] = sys.argv[1]
    for name, folder in texts.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(TEXT)["input_ids"]
        bos = tokenizer.bos_token_id if ids[0] == tokenizer.bos_token_id else None
        cases += cases_of(name, folder, ids, bos, [(64, 32), (100, 100), (64, 0)])
    with open(os.path.join(HERE, "perplexity.json"), "w", encoding="utf-8") as f:
        json.dump({"text": TEXT, "cases": cases}, f, indent=1)
        f.write("\n")


main()
