"""The short table of a run of bench/gpu/run.sh, from the files that it wrote.

    report.py OUT
"""

import csv
import json
import pathlib
import sys

LINES_OF_FAILED = 4


def read_csv(path):
    return list(csv.DictReader(path.open())) if path.exists() else []


def print_checks(out):
    stages = list(csv.reader((out / "stages.csv").open()))
    groups = {}
    for name, status, seconds in stages:
        groups.setdefault(name.split("-")[0], []).append((name, status, int(seconds)))
    for group, members in groups.items():
        good = sum(status == "ok" for _, status, _ in members)
        bad = "".join(f"; {name}: {status}" for name, status, _ in members if status != "ok")
        print(f"{group:<11} {good} of {len(members)} ok, {sum(s for _, _, s in members)} s{bad}")
    for tool in ("memcheck", "racecheck"):
        if tool not in groups:
            print(f"{tool:<11} not run")
    for name, status, _ in stages:
        if status != "ok":
            print_end(out / "logs" / f"{name}.log")


def print_end(log):
    """The last lines of what a part wrote that did not end well."""
    if log.exists():
        for line in log.read_text(errors="replace").strip().splitlines()[-LINES_OF_FAILED:]:
            print(f"  {log.stem}: {line[:160]}")


def number(text):
    return float(text) if text else None


def print_limits(operations):
    for row in operations:
        if row["operation"] in ("arithmetic", "read", "copy", "graph node"):
            gb, tflop = number(row["gb_per_s"]), number(row["tflop_per_s"])
            value = f"{tflop:.2f} TFLOP/s" if tflop else f"{gb:.1f} GB/s" if gb else f"{number(row['us']):.2f} us"
            print(f"{row['operation']:<11} {row['format'] or row['way'] or row['shape']:<8} {value}")


def cell(row, bandwidth):
    """GB/s or TFLOP/s, whichever limits, and its percentage; microseconds where nothing does."""
    us, gb, tflop = number(row["us"]), number(row["gb_per_s"]), number(row["tflop_per_s"])
    percent = number(row["percent_of_limit"])
    if us is None:
        return "failed"
    if gb is None or percent is None or row["operation"] in ("embed", "norm", "rotate and store", "sample"):
        return f"{us:.1f}us"
    by_memory = float(row["limit_us"]) <= 1.01 * gb * us / bandwidth
    return f"{gb:.0f}G {percent:.0f}%" if by_memory else f"{tflop:.0f}T {percent:.0f}%"


def print_operations(operations):
    """One line for each operation, format and way; columns are rows, or rows x context."""
    lines, bandwidth = {}, 1.0  # GB/s that reading reached
    for row in operations:
        if row["operation"] == "read":
            bandwidth = number(row["gb_per_s"])
        if row["operation"] in ("arithmetic", "read", "copy", "graph node"):
            continue
        key = (row["operation"], row["format"], row["way"])
        column = row["rows"] + ("x" + row["context"] if row["context"] != "0" and "decode" in key[0] else "")
        lines.setdefault(key, []).append(f"{column}: {cell(row, bandwidth)}")
    for key, cells in lines.items():
        print(" ".join(part for part in key if part).ljust(32), ", ".join(cells))


def model_rows(out):
    for path in sorted((out / "logs").glob("model-*.log")):
        shape, weights = path.stem.removeprefix("model-").rsplit("-", 1)
        try:
            result = json.loads(path.read_text().strip().splitlines()[-1])
        except (json.JSONDecodeError, IndexError):
            yield shape, weights, None
            continue
        for row in result["results"]:
            yield shape, weights, row


def percent_of(phase):
    limit = phase["limit_tokens_per_s"]
    return f"{100 * phase['tokens_per_s'] / limit:.0f}%" if limit else "-"


def print_models(out):
    print(f"{'model':<14} {'weights':<8} {'batch':>5} {'prompt tok/s':>13} {'%':>5} {'new tok/s':>10} {'%':>5} "
          f"{'ms/step':>8} {'host us':>8} {'first token ms':>15}")
    for shape, weights, row in model_rows(out):
        if row is None:
            print(f"{shape:<14} {weights:<8} failed")
            continue
        prompt, decode = row["prompt"], row["decode"]
        first = f"{1e3 * prompt['seconds']:.2f}" if row["batch"] == 1 else ""
        print(f"{shape:<14} {weights:<8} {row['batch']:>5} {prompt['tokens_per_s']:>13.0f} {percent_of(prompt):>5} "
              f"{decode['tokens_per_s']:>10.1f} {percent_of(decode):>5} "
              f"{1e3 * decode['seconds'] / decode['steps']:>8.3f} {decode['host_us_per_step']:>8.1f} {first:>15}")


def main():
    out = pathlib.Path(sys.argv[1])
    operations = read_csv(out / "operations.csv")
    print()
    print((out / "device.csv").read_text().replace(",", " ").strip())
    print_limits(operations)
    print()
    print("Operations by rows (decode: rows x context): GB/s or TFLOP/s, and % of what was measured")
    print_operations(operations)
    print()
    print_models(out)
    print()
    print_checks(out)


if __name__ == "__main__":
    main()
