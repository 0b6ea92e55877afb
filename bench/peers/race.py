"""Races optima against llama.cpp, or what descends from it, on one GGUF file: the same threads, in turns, so that a busy
machine slows down both.

    race.py --llama-bench PATH --llama-batched-bench PATH MODEL.gguf [--threads N] [--rounds 5] [--out FILES]

Figures: tokens a second of a prompt of 512 (llama-bench), and of 1, 8 and 32 streams that write together after prompts
of 128 tokens (llama-batched-bench); of optima both by `optima bench-model`. Each round measures both programs one after
the other, every second round in the other order, and gives a ratio. The table shows medians and, of the ratios, the
quartiles. FILES.json gets, after each round, every number with machine, load and versions, FILES.svg a plot. Standard
library only.
"""

import argparse
import datetime
import html
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def fail(text):
    sys.exit(f"race.py: {text}")


def run(command, folder=None):
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        fail(f"cannot run {command[0]}: {error.strerror}")
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        fail(f"{command[0]} ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
    return done.stdout, done.stderr


def decode_rates(table):
    """Tokens a second of all streams together, by their number, from the table that llama-batched-bench prints."""
    head, rates = [], {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "S_TG t/s" in cells:
            head = cells
        elif head and len(cells) == len(head) and cells[0].isdigit():
            row = dict(zip(head, cells))
            rates[int(row["B"])] = float(row["S_TG t/s"])
    return rates


def names(options):
    return [f"prompt {options.prompt}"] + [f"{n} stream{'s' if n > 1 else ''}" for n in options.streams]


def run_peer(command):
    """In a folder that goes away: some write logs where they are."""
    program = shutil.which(command[0])
    if not program:
        fail(f"cannot run {command[0]}: there is no such program")
    with tempfile.TemporaryDirectory() as folder:
        return run([os.path.abspath(program), *command[1:]], folder)


def measure_peer(options):
    threads = str(options.threads)
    out = run_peer([options.llama_bench, "-m", options.model, "-t", threads, "-p", str(options.prompt), "-n", "0", "-r", "1",
                    "-o", "json"])[0]
    rates = [json.loads(out)[0]["avg_ts"]]
    room = max(options.streams) * (options.context + options.tokens)
    streams = ",".join(map(str, options.streams))
    out, log = run_peer([options.llama_batched_bench, "-m", options.model, "-t", threads, "-tb", threads, "-c", str(room),
                         "-npp", str(options.context), "-ntg", str(options.tokens), "-npl", streams])
    rows = decode_rates(out) or decode_rates(log)
    if set(rows) != set(options.streams):
        fail(f"{options.llama_batched_bench} gave no line for some number of streams")
    return rates + [rows[n] for n in options.streams]


def measure_optima(options, seen):
    command = [str(options.optima), "bench-model", options.model, "--threads", str(options.threads), "--json",
               *options.optima_option]
    prompt = json.loads(run(command + ["-p", str(options.prompt), "-n", "1", "-b", "1"])[0])
    streams = json.loads(run(command + ["-p", str(options.context), "-n", str(options.tokens),
                                        "-b", ",".join(map(str, options.streams))])[0])
    seen["device"] = streams["device"]
    seen["read_bytes_per_s"] = max(seen.get("read_bytes_per_s", 0), streams["peaks_measured"]["read_bytes_per_s"])
    return [prompt["results"][0]["prompt"]["tokens_per_s"]] + [
        result["decode"]["tokens_per_s"] for result in streams["results"]]


def machine():
    model = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model or platform.machine()}, {os.cpu_count()} cores"


def summarise(options, ours, theirs):
    figures = []
    for i, name in enumerate(names(options)):
        a, b = [row[i] for row in ours], [row[i] for row in theirs]
        ratios = [x / y for x, y in zip(a, b)]
        quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
        figures.append({"figure": name, "optima": statistics.median(a), "peer": statistics.median(b),
                        "ratio": statistics.median(ratios), "ratio_low": quartiles[0], "ratio_high": quartiles[2],
                        "optima_all": a, "peer_all": b})
    return figures


def print_table(figures, peer):
    print(f"\n| tokens/s | optima | {peer} | ratio | quartiles |\n|---|---|---|---|---|")
    for f in figures:
        print(f"| {f['figure']} | {f['optima']:.1f} | {f['peer']:.1f} | {f['ratio']:.2f} "
              f"| {f['ratio_low']:.2f} to {f['ratio_high']:.2f} |")


def svg(figures, title, peer):
    """Two bars a figure, and the ratio above them."""
    width, height, left, base = 180 * len(figures) + 60, 340, 40, 280
    most = max(max(f["optima"], f["peer"]) for f in figures)
    text = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
            f'font-size="13">', f'<rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="{left}" y="22" font-size="14">{html.escape(title)}</text>']
    for i, f in enumerate(figures):
        x = left + 180 * i
        for j, (value, colour) in enumerate(((f["optima"], "#2b6cb0"), (f["peer"], "#b0b7c3"))):
            size = 200 * value / most
            text.append(f'<rect x="{x + 60 * j}" y="{base - size:.1f}" width="52" height="{size:.1f}" fill="{colour}"/>')
            text.append(f'<text x="{x + 60 * j + 26}" y="{base - size - 5:.1f}" text-anchor="middle">{value:.0f}</text>')
        text.append(f'<text x="{x + 56}" y="{base + 18}" text-anchor="middle">{f["figure"]}</text>')
        text.append(f'<text x="{x + 56}" y="{base + 36}" text-anchor="middle" font-weight="bold">{f["ratio"]:.2f}×'
                    f' ({f["ratio_low"]:.2f}–{f["ratio_high"]:.2f})</text>')
    text.append(f'<text x="{left}" y="{height - 6}" fill="#555">tokens/s, medians; blue: optima, grey: {html.escape(peer)}</text>')
    return "\n".join(text + ["</svg>\n"])


def title_of(options, loads):
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    return f"{pathlib.Path(options.model).name}, {threads}, load {statistics.median(loads):.1f}"


def write_files(options, figures, loads, seen):
    result = {"model": pathlib.Path(options.model).name, "machine": machine(), "threads": options.threads,
              "peer": options.peer, **seen, "loads": loads, "date": datetime.date.today().isoformat(),
              "figures": figures}
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.out.with_suffix(".svg").write_text(svg(figures, title_of(options, loads), options.peer))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--llama-batched-bench", required=True)
    parser.add_argument("--optima", default=ROOT / "build" / "optima", type=pathlib.Path)
    parser.add_argument("--optima-option", action="append", default=[], metavar="OPTION",
                        help="of optima bench-model, as --optima-option=--instruction-set=avx2")
    parser.add_argument("--peer", default="llama.cpp", help="name and version of the peer, for the table")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--context", type=int, default=128, help="tokens of the prompts of the streams")
    parser.add_argument("--tokens", type=int, default=32, help="tokens that each stream writes")
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--out", type=pathlib.Path, help="write FILES.json and FILES.svg")
    options = parser.parse_args()
    try:
        options.streams = [int(n) for n in options.streams.split(",")]
    except ValueError:
        fail("--streams: numbers with commas between them")
    for name in ("threads", "rounds", "prompt", "context", "tokens"):
        if getattr(options, name) < 1:
            fail(f"--{name}: at least 1")
    if min(options.streams) < 1:
        fail("--streams: at least 1")
    if not pathlib.Path(options.model).is_file():
        fail(f"{options.model} is no file")
    options.model = os.path.abspath(options.model)
    return options


def main():
    options = parse()
    ours, theirs, loads, seen = [], [], [], {}
    for i in range(options.rounds):
        loads.append(os.getloadavg()[0])
        if i % 2:
            theirs.append(measure_peer(options))
            ours.append(measure_optima(options, seen))
        else:
            ours.append(measure_optima(options, seen))
            theirs.append(measure_peer(options))
        shown = ", ".join(f"{n} {a:.1f}/{b:.1f}" for n, a, b in zip(names(options), ours[-1], theirs[-1]))
        print(f"round {i + 1}, load {loads[-1]:.1f}: {shown}", flush=True)
        if options.out:
            write_files(options, summarise(options, ours, theirs), loads, seen)
    print_table(summarise(options, ours, theirs), options.peer)
    print(f"{title_of(options, loads)}; {seen['device']}; read {seen['read_bytes_per_s'] / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
