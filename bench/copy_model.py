"""Teaches the demo model to copy, so that what n-gram guesses gain can be measured on text that a model really repeats.

    copy_model.py FOLDER [--steps 300]

Continues training the demo's weights on rows of random passages, each followed by itself; a few minutes on one core. FOLDER then
holds a model for `bench/speculation.py --model FOLDER --text repeat`. Needs torch and safetensors.
"""

import argparse
import pathlib
import shutil
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEMO = ROOT / "models" / "demo"
sys.path.insert(0, str(DEMO))

import torch  # noqa: E402
from llama import CONFIGS, Llama  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

N_POSITIONS, N_ROWS = 256, 8


def load():
    model = Llama(CONFIGS["demo"])
    values = {name.removeprefix("model."): value.float() for name, value in load_file(DEMO / "model.safetensors").items()}
    model.load_state_dict({name: values[name] for name, _ in model.named_parameters()}, strict=False)
    return model


def rows(generator):
    """Rows of a passage of 8 to 100 tokens over and over; half of them of few different tokens, as in natural text."""
    result = []
    for _ in range(N_ROWS):
        n = int(torch.randint(8, 100, (1,), generator=generator))
        first = int(torch.randint(0, 4096 - 600, (1,), generator=generator))
        few = bool(torch.randint(0, 2, (1,), generator=generator))
        passage = torch.randint(first if few else 64, first + 500 if few else 4096, (n,), generator=generator)
        result.append(passage.repeat(N_POSITIONS // n + 2)[: N_POSITIONS + 1])
    return torch.stack(result)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, generator = load(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0)
    began = time.time()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, step / 20, 4 * (1 - step / options.steps))
        loss = model.loss(rows(generator))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        if step % 20 == 0 or step == options.steps - 1:
            print(f"step {step}: {loss.item():.3f} nats a token, {time.time() - began:.0f} s", flush=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        shutil.copy(DEMO / name, options.folder / name)
    save_file({f"model.{name}": p.detach().bfloat16().contiguous() for name, p in model.named_parameters()},
              options.folder / "model.safetensors")


if __name__ == "__main__":
    main()
