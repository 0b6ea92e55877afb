"""Writes demo_greedy.json: prompts and the greedy tokens that transformers computes for the embedded demo model.

    python make_demo.py        (needs torch and transformers)

The weights are the BF16 ones of models/demo, computed in float32. A prompt is kept only if at every step the best logit leads
the second by MIN_GAP at least, so that an engine that rounds differently must still find the same tokens.
"""
import json
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "..", "..", "models", "demo")
N_TOKENS, N_KEPT, MIN_GAP = 32, 5, 0.15
CONVERSATIONS = [
    [{"role": "user", "content": text}] for text in (
        "Who are you?", "Why does it rain?", "How do I make tea?", "How do I plant a seed?", "Why is the sky blue?", "What does a plant need?")
] + [[{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "My name is Sara."},
      {"role": "assistant", "content": "Hello, Sara! How can I help you?"}, {"role": "user", "content": "What is my name?"}]]


@torch.no_grad()
def greedy(model, ids):
    """N_TOKENS ids, the turn's end included and run past, and the smallest lead of a best logit over the second."""
    ids, gap, start = list(ids), float("inf"), len(ids)
    while len(ids) - start < N_TOKENS:
        best = model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        ids.append(int(best.indices[0]))
    return ids[start:], gap


def main():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    cases = []
    for messages in CONVERSATIONS:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        tokens, gap = greedy(model, ids)
        print(f"{gap:.3f}", repr(tokenizer.decode(tokens)))
        cases.append({"messages": messages, "prompt": prompt, "prompt_ids": ids, "greedy_ids": tokens,
                      "text": tokenizer.decode(tokens), "smallest_gap": round(gap, 4)})
    kept = sorted(cases, key=lambda case: -case["smallest_gap"])[:N_KEPT]
    kept = [case for case in kept if case["smallest_gap"] >= MIN_GAP]
    assert kept, "every prompt has a near tie"
    with open(os.path.join(HERE, "demo_greedy.json"), "w", encoding="utf-8") as f:
        json.dump({"model": "models/demo, BF16 weights computed in float32 by transformers", "cases": kept}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
