"""Does the advisor find what is wrong? Faults put into a running server from outside, and what its report says of them.

    advisor_faults.py [--binary build/optima] [--seconds 45] [--runs 1] [--out FILES] [FAULT ...]

For each fault a server is started with it (a bad option, a slowed function, a pinned core, a quota) and loaded by `optima bench`;
then /advisor is asked, and its first finding must name the cause. Where that finding gives an option to set, the server is started
again with it under the same load, and the measured change must lie in the predicted range. Printed: the confusion matrix, the share
of causes found and of ranges that held. FILES.json gets every report's first findings. Faults that this machine cannot have
(no control groups) are skipped with a line. Standard library only.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHAT = ["--users", "8", "--prompt-tokens", "64", "--output-tokens", "96"]


class Skip(Exception):
    pass


class Fault:
    """server, load: options. expects: ids of findings that name the cause. prefix: command before the server's."""

    def __init__(self, name, expects, server=(), load=(CHAT,), binary="optima", prefix=(), group=None, hidden=False):
        self.name, self.expects, self.server, self.load = name, expects.split(), list(server), list(load)
        self.binary, self.prefix, self.group, self.hidden = binary, list(prefix), group, hidden


def faults(options):
    long_prompts = ["--users", "2", "--prompt-tokens", "900", "--output-tokens", "4"]
    decoders = ["--users", "6", "--prompt-tokens", "16", "--output-tokens", "400"]
    shared = ["--users", "8", "--prompt-tokens", "600", "--prefix-tokens", "560", "--output-tokens", "24"]
    slow = ["--users", "16", "--prompt-tokens", "16", "--output-tokens", "400", "--slow-reader", "50%"]
    return [
        Fault("batch cap of 1", "R1", ["--sequences", "1"]),
        Fault("batch cap of 2", "R1", ["--sequences", "2"], [["--users", "16", *CHAT[2:]]]),
        Fault("tiny KV cache", "R4", ["--kv-gib", "0.01"], [["--users", "16", "--prompt-tokens", "64", "--output-tokens", "300"]]),
        Fault("blocks set aside for all of max_tokens", "R5", ["--admission", "100", "--kv-gib", "0.02"],
              [["--users", "16", "--prompt-tokens", "32", "--output-tokens", "600", "--no-ignore-eos"]]),
        Fault("tiny chunks", "R9", ["--chunk", "8", "--prompt-rows", "8"], [["--users", "2", "--prompt-tokens", "700", "--output-tokens", "8"]]),
        Fault("huge chunks beside decodes", "R8", ["--prompt-rows", "512", "--chunk", "512"], [decoders, long_prompts]),
        Fault("no prefix cache", "R10", ["--no-prefix-cache"], [shared]),
        Fault("prefixes that churn", "R10", ["--kv-gib", "0.03"], [[*shared[:-2], "--prefixes", "40", "--output-tokens", "8"]]),
        Fault("slow sampler", "R18 R19", binary="optima_slow_sampler"),
        Fault("slow tokenizer", "R21", binary="optima_slow_tokenizer", load=[["--users", "4", "--prompt-tokens", "64", "--output-tokens", "8"]]),
        Fault("slow readers", "R22", load=[slow]),
        Fault("eight threads on two cores", "R39", ["--threads", str(4 * os.cpu_count())]),
        Fault("all threads on one core", "R39", ["--threads", str(os.cpu_count())], prefix=["taskset", "-c", "0"]),
        Fault("quota of half a core", "R39", group=("cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}, "50000 100000")),
        Fault("overload", "R24", load=[["--rate", "400", "--prompt-tokens", "64", "--output-tokens", "64"]]),
        Fault("starvation", "R3", load=[["--users", "1", "--think", "0.4", "--prompt-tokens", "32", "--output-tokens", "32"]]),
        Fault("useless draft", "R31 R32", ["--speculate", f"draft:{options.bad_draft}", "--draft-tokens", "4"], [["--users", "1", *CHAT[2:]]]),
        Fault("guesses in a full batch", "R31 R32", ["--speculate", "ngram", "--draft-tokens", "8"], [["--users", "16", *CHAT[2:]]]),
        Fault("long contexts", "R29 R12", ["--context", "2048"], [["--users", "4", "--prompt-tokens", "1700", "--output-tokens", "200"]]),
        Fault("memory pressure", "R42", group=("memory", {"memory.limit_in_bytes": "60M"}, None)),
    ]


def spoil_draft(folder):
    """The demo's draft model with its weights in reverse order: finite, of the right shapes, and always wrong."""
    made = pathlib.Path(folder) / "draft"
    shutil.copytree(ROOT / "models" / "demo" / "draft", made)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (made / name).exists():
            shutil.copy(ROOT / "models" / "demo" / name, made / name)
    for path in made.glob("*.safetensors"):
        data = path.read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        values = [data[at:at + 2] for at in range(begin, len(data), 2)]
        path.write_bytes(data[:begin] + b"".join(reversed(values)))
    return made


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Group:
    """A control group with limits; version 1 or 2."""

    def __init__(self, controller, limits, version_2):
        old, new = pathlib.Path("/sys/fs/cgroup") / controller, pathlib.Path("/sys/fs/cgroup/cgroup.controllers")
        name = f"optima-fault-{os.getpid()}"
        try:
            if old.is_dir():
                self.path = old / name
                self.path.mkdir()
                for key, value in limits.items():
                    (self.path / key).write_text(value)
            elif new.exists() and version_2:
                self.path = new.parent / name
                self.path.mkdir()
                (self.path / f"{controller}.max").write_text(version_2)
            else:
                raise Skip("no control group to set it")
        except OSError as error:
            raise Skip(f"control groups: {error.strerror}") from error

    def take(self, pid):
        (self.path / "cgroup.procs").write_text(str(pid))

    def close(self):
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


class Server:
    def __init__(self, options, fault, extra=()):
        self.port = free_port()
        self.group = Group(*fault.group) if fault.group else None
        binary = options.binary.parent / fault.binary
        if not binary.exists():
            raise Skip(f"{binary} was not built (OPTIMA_BENCH)")
        if fault.prefix and not shutil.which(fault.prefix[0]):
            raise Skip(f"there is no {fault.prefix[0]}")
        command = [*fault.prefix, str(binary), "serve", *options.model, "--port", str(self.port), *with_options(fault.server, extra)]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        if self.group:
            self.group.take(self.process.pid)

    def __enter__(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).read()
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        self.__exit__()
        raise Skip(f"the server did not start: {lines[-1] if lines else 'no message'}")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.group:
            self.group.close()

    def report(self, window):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/advisor?window={window}", timeout=20) as answer:
            return json.load(answer)


def with_options(present, changes):
    """The options of a command line with some replaced: ["--chunk", "8"] and ["--chunk", "0"]."""
    result, names = [], {word.split("=")[0] for word in changes if word.startswith("--")}
    at = 0
    while at < len(present):
        n = 2 if at + 1 < len(present) and not present[at + 1].startswith("--") else 1
        if present[at] not in names and not (present[at] == "--no-prefix-cache" and "--prefix-cache" in names):
            result += present[at:at + n]
        at += n
    return result + [word for word in changes if word != "--prefix-cache"]


def load(options, server, fault, seconds):
    """Runs the load and returns the report made while it still runs."""
    url = f"http://127.0.0.1:{server.port}"
    clients = [subprocess.Popen([str(options.binary), "bench", url, "--quiet", "--duration", str(seconds + 4), *arguments],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for arguments in fault.load]
    try:
        time.sleep(seconds)
        report = server.report(min(600, max(10, int(seconds - 5))))
    finally:
        for client in clients:
            client.send_signal(signal.SIGINT)
        for client in clients:
            try:
                client.wait(20)
            except subprocess.TimeoutExpired:
                client.kill()
    return report


def metric_of(report, name):
    value = report["measured"].get(name)
    return value.get("value") if isinstance(value, dict) else value


def try_suggestion(options, fault, finding, before):
    """The measured factor of the finding's metric with its option set; None: it gives none."""
    flag, effect = (finding.get("suggest") or {}).get("flag"), finding.get("effect")
    if not flag or not effect or not re.match(r"--[a-z-]+( \S+)?$", flag):
        return None
    healed = Fault(fault.name, "", fault.server, fault.load, fault.binary, fault.prefix, fault.group)
    with Server(options, healed, flag.split()) as server:
        after = load(options, server, healed, options.seconds)
    first, second = metric_of(before, effect["metric"]), metric_of(after, effect["metric"])
    if not first or not second:
        return None
    low, high, measured = effect["low"], effect["high"], second / first
    return {"flag": flag, "metric": effect["metric"], "low": low, "high": high, "measured": measured, "held": low <= measured <= high}


def run(options, fault):
    with Server(options, fault) as server:
        report = load(options, server, fault, options.seconds)
    findings = report["findings"]
    top = findings[0]["id"] if findings else report["verdict"]["class"]
    result = {"fault": fault.name, "expected": fault.expects, "top": top, "found": top in fault.expects,
              "all": [f["id"] for f in findings], "headline": report["verdict"]["headline"],
              "diagnosis": findings[0].get("diagnosis") if findings else None}
    if result["found"] and not options.no_effect:
        result["effect"] = try_suggestion(options, fault, findings[0], report)
    return result


def show(result):
    mark = "found" if result["found"] else "MISSED"
    print(f"{mark:6}  {result['fault']}: {', '.join(result['all']) or result['top']} (expected {' or '.join(result['expected'])})")
    print(f"        {result['headline']}")
    if result["diagnosis"]:
        print(f"        {result['diagnosis']}")
    effect = result.get("effect")
    if effect:
        held = "inside" if effect["held"] else "OUTSIDE"
        print(f"        {effect['flag']}: {effect['metric']} x {effect['measured']:.2f}, {held} {effect['low']:.2f} to {effect['high']:.2f}")
    sys.stdout.flush()


def summarise(results):
    tops = sorted({r["top"] for r in results}, key=lambda t: (len(t), t))
    names = list(dict.fromkeys(r["fault"] for r in results))
    print("\n| cause | " + " | ".join(tops) + " |\n|---|" + "---|" * len(tops))
    for name in names:
        of = [r for r in results if r["fault"] == name]
        cells = [sum(r["top"] == top for r in of) for top in tops]
        expected = of[0]["expected"]
        print(f"| {name} | " + " | ".join(f"**{c}**" if c and t in expected else str(c or "") for c, t in zip(cells, tops)) + " |")
    effects = [r["effect"] for r in results if r.get("effect")]
    n_found, n_held = sum(r["found"] for r in results), sum(e["held"] for e in effects)
    print(f"\n{n_found} of {len(results)} causes named first; {n_held} of {len(effects)} measured effects inside the predicted range")
    return n_found, n_held, len(effects)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fault", nargs="*", help="parts of the names of faults; all")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build" / "optima")
    parser.add_argument("--model", action="append", default=[], help="(the embedded demo model)")
    parser.add_argument("--seconds", type=float, default=45, help="of load before the report")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--no-effect", action="store_true", help="do not try the suggestions")
    parser.add_argument("--least", type=float, default=0.9, help="share of causes that must be named first")
    parser.add_argument("--out", type=pathlib.Path)
    return parser.parse_args()


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        options.bad_draft = spoil_draft(folder)
        sys.exit(run_all(options))


def run_all(options):
    results = []
    for _ in range(options.runs):
        for fault in faults(options):
            if options.fault and not any(word in fault.name for word in options.fault):
                continue
            try:
                results.append(run(options, fault))
                show(results[-1])
            except Skip as why:
                print(f"skip    {fault.name}: {why}")
            except (urllib.error.URLError, OSError, KeyError) as error:
                results.append({"fault": fault.name, "expected": fault.expects, "top": "no report", "found": False, "all": [],
                                "headline": repr(error), "diagnosis": None})
                show(results[-1])
            if options.out:
                options.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    if not results:
        return "advisor_faults.py: no fault has such a name, or none could be made"
    n_found, _, _ = summarise(results)
    return 0 if n_found >= options.least * len(results) else 1


if __name__ == "__main__":
    main()
