"""Time of a step against rows and context, beside its limit, and where steps lie under the roofline: one SVG.

    roofline.py MODEL [--optima build/optima] [--threads N] [--rows 1,2,4,8,16,32,64] [--contexts 128,1024,4096] [--out FILES]

Each point is a decoding step of so many sequences after prompts of that context, or a step of a prompt, measured by `optima
bench-model`, which counts its bytes and operations and measures the machine's peaks in the same run. FILES.json gets every number,
FILES.svg the picture. Standard library only.
"""

import argparse
import html
import json
import math
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
COLOURS = ["#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b7791f"]
WIDTH, HEIGHT, LEFT, TOP = 460, 320, 64, 40


def measure(options, context, rows):
    command = [str(options.optima), "bench-model", options.model, "--threads", str(options.threads), "--json", "-p", str(context),
               "-n", "12", "-b", ",".join(map(str, rows)), *options.optima_option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"roofline.py: {done.stderr.strip() or command[0]}")
    return json.loads(done.stdout)


def points_of(result, context):
    """name, context, rows, seconds a step, limit, bytes and operations a step."""
    points = []
    for row in result["results"]:
        for kind in ("prompt", "decode"):
            phase = row[kind]
            if kind == "prompt" and row["batch"] != 1:
                continue
            n, limit = phase["steps"], phase["limit_tokens_per_s"]
            points.append({"kind": kind, "context": context, "rows": phase["tokens"] / n, "seconds": phase["seconds"] / n,
                           "limit_seconds": phase["tokens"] / n / limit if limit else None, "bytes": phase["bytes"] / n, "flops": phase["flops"] / n})
    return points


class Panel:
    """Axes with logarithms, from whole powers of ten to whole powers of ten."""

    def __init__(self, x, title, xs, ys, x_name, y_name):
        self.x0 = x + LEFT
        self.low = [math.floor(math.log10(min(values))) for values in (xs, ys)]
        self.high = [math.ceil(math.log10(max(values)) + 1e-9) for values in (xs, ys)]
        self.out = [f'<text x="{self.x0}" y="24" font-size="14">{html.escape(title)}</text>']
        for axis in (0, 1):
            for power in range(self.low[axis], self.high[axis] + 1):
                px, py = self.at(10.0 ** power, 10.0 ** self.low[1]) if axis == 0 else self.at(10.0 ** self.low[0], 10.0 ** power)
                x2, y2 = (px, TOP) if axis == 0 else (self.x0 + WIDTH, py)
                self.out.append(f'<line x1="{px:.1f}" y1="{py:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>')
                where = f'x="{px:.1f}" y="{py + 16:.1f}" text-anchor="middle"' if axis == 0 else f'x="{px - 6:.1f}" y="{py + 4:.1f}" text-anchor="end"'
                self.out.append(f'<text {where} fill="#555">{short(10.0 ** power)}</text>')
        self.out.append(f'<text x="{self.x0 + WIDTH / 2}" y="{TOP + HEIGHT + 34}" text-anchor="middle">{x_name}</text>')
        self.out.append(f'<text transform="translate({self.x0 - 46},{TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">{y_name}</text>')

    def at(self, x, y):
        fx = (math.log10(x) - self.low[0]) / max(1, self.high[0] - self.low[0])
        fy = (math.log10(y) - self.low[1]) / max(1, self.high[1] - self.low[1])
        return self.x0 + WIDTH * fx, TOP + HEIGHT * (1 - fy)

    def line(self, points, colour, dashed=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*p) for p in points))
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>')

    def dot(self, x, y, colour, square, title):
        px, py = self.at(x, y)
        shape = f'<rect x="{px - 4:.1f}" y="{py - 4:.1f}" width="8" height="8"' if square else f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4"'
        self.out.append(f'{shape} fill="{colour}"><title>{html.escape(title)}</title></{"rect" if square else "circle"}>')


def short(value):
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def draw(options, points, peaks):
    contexts = sorted({p["context"] for p in points})
    colour = dict(zip(contexts, COLOURS))
    decode = [p for p in points if p["kind"] == "decode"]
    times = [1e3 * p["seconds"] for p in decode] + [1e3 * p["limit_seconds"] for p in decode if p["limit_seconds"]]
    left = Panel(0, "time of a decoding step", [p["rows"] for p in decode], times, "sequences", "ms")
    for c in contexts:
        line = sorted((p for p in decode if p["context"] == c), key=lambda p: p["rows"])
        left.line([(p["rows"], 1e3 * p["seconds"]) for p in line], colour[c])
        left.line([(p["rows"], 1e3 * p["limit_seconds"]) for p in line if p["limit_seconds"]], colour[c], True)
        for p in line:
            left.dot(p["rows"], 1e3 * p["seconds"], colour[c], False, f"{p['rows']:.0f} sequences, context {c}: {1e3 * p['seconds']:.2f} ms")
    intensity = [p["flops"] / p["bytes"] for p in points]
    rates = [p["flops"] / p["seconds"] for p in points]
    read = peaks["read_bytes_per_s"]
    roofs = [("f32", peaks["f32_flops_per_s"]), ("bf16", peaks.get("bf16_flops_per_s") or 0)]
    most = max(roof for _, roof in roofs)
    right = Panel(WIDTH + LEFT + 30, "roofline (round: decode, square: prompt)", intensity + [most / read], rates + [most], "operations a byte", "operations/s")
    low = 10.0 ** right.low[0]
    for name, roof in roofs:
        if roof:
            right.line([(max(low, roof / read), roof), (10.0 ** right.high[0], roof)], "#777", True)
            x, y = right.at(10.0 ** right.high[0], roof)
            right.out.append(f'<text x="{x:.0f}" y="{y - 5:.0f}" text-anchor="end" fill="#555">{name}, measured: {short(roof)}</text>')
    start = max(low, 10.0 ** right.low[1] / read)
    right.line([(start, start * read), (most / read, most)], "#777")
    for p in points:
        right.dot(p["flops"] / p["bytes"], p["flops"] / p["seconds"], colour[p["context"]], p["kind"] == "prompt",
                  f"{p['kind']}, {p['rows']:.0f} rows, context {p['context']}: {short(p['flops'] / p['seconds'])} operations/s")
    width, height = 2 * (WIDTH + LEFT) + 60, TOP + HEIGHT + 76
    legend = [f'<tspan fill="{colour[c]}">■</tspan> context {c}  ' for c in contexts]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
                      f'<rect width="{width}" height="{height}" fill="white"/>', *left.out, *right.out,
                      f'<text x="{LEFT}" y="{height - 10}" xml:space="preserve">{"".join(legend)} dashed: limit by measured peaks '
                      f'({read / 1e9:.1f} GB/s); {html.escape(pathlib.Path(options.model).name)}, {options.threads} threads</text>', "</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--optima", default=ROOT / "build" / "optima", type=pathlib.Path)
    parser.add_argument("--optima-option", action="append", default=[], metavar="OPTION", help="of optima bench-model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--contexts", type=lambda text: [int(n) for n in text.split(",")], default=[128, 1024, 4096])
    parser.add_argument("--most", type=int, default=1 << 16, help="tokens of all sequences together")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("roofline"))
    options = parser.parse_args()
    points, peaks = [], {}
    for context in options.contexts:
        result = measure(options, context, [n for n in options.rows if n * context <= options.most])
        for key, value in result["peaks_measured"].items():
            peaks[key] = max(peaks.get(key, 0), value)
        points += points_of(result, context)
    for p in points:
        share = f", {100 * p['limit_seconds'] / p['seconds']:.0f} % of the limit" if p["limit_seconds"] else ""
        print(f"{p['kind']:6} context {p['context']:5}, {p['rows']:4.0f} rows: {1e3 * p['seconds']:8.2f} ms a step{share}")
    options.out.with_suffix(".json").write_text(json.dumps({"model": pathlib.Path(options.model).name, "peaks": peaks, "points": points}, indent=1) + "\n")
    options.out.with_suffix(".svg").write_text(draw(options, points, peaks))


if __name__ == "__main__":
    main()
