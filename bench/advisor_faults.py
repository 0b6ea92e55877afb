"""Does the advisor find what is wrong? Faults put into a running server from outside, and what its report says of them.

    advisor_faults.py [--binary build/optima] [--seconds 45] [--runs 1] [--out FILES] [FAULT ...]

For each fault a server is started with it (a bad option, a slowed function, a pinned core, a quota) and loaded by `optima bench`;
then /advisor is asked, and its first finding must name the cause. Then its suggestion is followed: the option that it gives is set,
or, where it can only name the cause (a slow sampler, too few requests), the cause is removed. The measured change of the finding's
metric must lie in the predicted range: both servers are loaded in turn, in pairs of short blocks, and the median of the pairs' ratios
counts, because other work on the machine comes and goes. Printed: the confusion matrix, the share of causes found and of ranges
that held. FILES.json gets every report. Faults that this machine cannot have (no control groups) are skipped with a line. Where
other processes take more than a fifth of the machine before a server is started, the finding that says so is true, and set aside.
Standard library only.
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
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHAT = ["--users", "8", "--prompt-tokens", "64", "--output-tokens", "96"]
CROWDED = 0.2  # of the machine, taken by others


class Skip(Exception):
    pass


class Fault:
    """server, load: options; a load may also be a function of the server's port and the seconds. expects: ids of findings that name
    the cause. prefix: command before the server's. cure: what replaces fields where the finding has no option to set."""

    def __init__(self, name, expects, server=(), load=(CHAT,), binary="optima", prefix=(), group=None, cure=None, in_turn=True):
        self.name, self.expects, self.server, self.load = name, expects.split(), list(server), list(load)
        self.binary, self.prefix, self.group, self.cure = binary, list(prefix), group, cure
        self.in_turn = in_turn  # short blocks in turn show the effect; not where a queue has to build up

    def cured(self):
        healed = Fault(self.name, "", self.server, self.load, self.binary, self.prefix, self.group)
        for field, value in (self.cure or {}).items():
            setattr(healed, field, value)
        return healed


def chat(users, prompt, output, *more):
    return ["--users", str(users), "--prompt-tokens", str(prompt), "--output-tokens", str(output), *more]


def time_first(moves):
    """Clients whose prompts begin with the time, or, where it moves, end with it."""
    rules = "Answer in whole sentences. Be brief and kind. Name what you do not know. " * 12
    begin = "You are a helpful assistant of a small library in the hills, and you know every book on its shelves by heart. "

    def one(port, until):
        n = 0
        while time.monotonic() < until:
            n += 1
            now = f"It is {time.time():.6f} now, and this is question {n}. "
            text = begin + (rules + now if moves else now + rules)
            body = json.dumps({"prompt": text, "max_tokens": 8, "temperature": 0}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"})
            try:
                urllib.request.urlopen(request, timeout=30).read()
            except (urllib.error.URLError, OSError):
                return

    def start(port, seconds):
        threads = [threading.Thread(target=one, args=(port, time.monotonic() + seconds), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        return threads
    return start


def faults(options):
    long_prompts, decoders = chat(2, 900, 4), chat(6, 16, 400)
    shared = chat(8, 600, 24, "--prefix-tokens", "560")
    cpus = os.cpu_count()
    return [
        Fault("batch cap of 1", "R1", ["--sequences", "1", "--queue", "64"]),
        Fault("batch cap of 2", "R1", ["--sequences", "2", "--queue", "64"], [chat(16, 64, 96)]),
        Fault("tiny KV cache", "R4", ["--kv-gib", "0.01"], [chat(16, 64, 300)]),
        Fault("blocks set aside for all of max_tokens", "R5", ["--admission", "100", "--kv-gib", "0.02"],
              [chat(16, 32, 900, "--no-ignore-eos")]),
        Fault("tiny chunks", "R9", ["--chunk", "8", "--prompt-rows", "8"], [chat(2, 700, 8)]),
        Fault("huge chunks beside decodes", "R8", ["--prompt-rows", "512", "--chunk", "512", "--slo", "itl=10ms"], [decoders, long_prompts]),
        Fault("no prefix cache", "R10", ["--no-prefix-cache"], [shared], cure={"server": []}),
        Fault("prefixes that do not fit", "R10", ["--kv-gib", "0.06"], [chat(4, 600, 8, "--prefix-tokens", "560", "--prefixes", "40")]),
        Fault("the time comes first", "R10", load=[time_first(False)], cure={"load": [time_first(True)]}, in_turn=False),
        Fault("slow sampler", "R19", binary="optima_slow_sampler", cure={"binary": "optima"}),
        Fault("slow tokenizer", "R21", binary="optima_slow_tokenizer", load=[chat(4, 64, 8)], cure={"binary": "optima"}),
        Fault("slow readers", "R22", load=[["--rate", "6", *chat(1, 16, 400, "--slow-reader", "50%")[2:]]]),
        Fault("more threads than cores", "R39", ["--threads", str(4 * cpus)]),
        Fault("all threads on one core", "R39", ["--threads", str(cpus)], prefix=["taskset", "-c", "0"]),
        Fault("quota of half a core", "R39", group=("cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}, "50000 100000"),
              cure={"group": None}),
        Fault("overload", "R24", ["--slo", "ttft=500ms"], [["--rate", "400", *chat(1, 64, 64)[2:]]], in_turn=False),
        Fault("starvation", "R3", load=[chat(1, 32, 32, "--think", "0.4")], cure={"load": [chat(2, 32, 32, "--think", "0.4")]}),
        Fault("useless draft", "R31 R32", ["--speculate", f"draft:{options.bad_draft}", "--draft-tokens", "4"], [chat(1, 64, 96)]),
        Fault("guesses in a full batch", "R31 R32", ["--speculate", "ngram", "--draft-tokens", "8"], [chat(16, 64, 96)]),
        Fault("long contexts", "R29 R12", load=[chat(8, 850, 160)], cure={"load": [chat(8, 425, 80)]}),
        Fault("memory pressure", "R42", ["--kv-gib", "0.02"], group=("memory", "anonymous memory and 10 MiB", None), cure={"group": None}, in_turn=False),
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
        Group.n = getattr(Group, "n", 0) + 1
        name = f"optima-fault-{os.getpid()}-{Group.n}"
        try:
            if old.is_dir():
                self.path = old / name
                self.path.mkdir()
                self.limits = limits
                if isinstance(limits, dict):
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

    def join(self):
        """For a child, before it becomes the server: pages of its file are then counted as its own."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def tighten(self, pid):
        """Leaves room for what the process has written, and hardly any for the pages of its files."""
        if isinstance(self.limits, dict):
            return
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        anonymous = int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) << 10
        (self.path / "memory.limit_in_bytes").write_text(str(anonymous + (10 << 20)))

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
        if fault.group and fault.group[0] == "memory":
            command[len(fault.prefix)] = self.uncached(binary)
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, preexec_fn=self.group.join if self.group else None)

    def uncached(self, binary):
        """A copy of the program that no memory holds yet."""
        self.folder = tempfile.TemporaryDirectory(dir=binary.parent)
        copy = pathlib.Path(self.folder.name) / "optima"
        shutil.copy(binary, copy)
        with open(copy, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return str(copy)

    def __enter__(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2).read()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        else:
            self.log.seek(0)
            lines = self.log.read().strip().splitlines()
            self.__exit__()
            raise Skip(f"the server did not start: {lines[-1] if lines else 'no message'}")
        self.wait_for_peaks()
        return self

    def wait_for_peaks(self):
        """The first idle seconds are for measuring the machine, where no earlier server has left a file of it."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if self.report(10)["measured"]["peaks"]["read"]["value"]:
                    return
            except (urllib.error.URLError, OSError, KeyError):
                pass
            time.sleep(0.5)

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


def start_load(options, server, load, seconds):
    if callable(load):
        return load(server.port, seconds + 4)
    command = [str(options.binary), "bench", f"http://127.0.0.1:{server.port}", "--quiet", "--duration", str(seconds + 4), *load]
    return [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]


def load(options, server, fault, seconds):
    """Runs the load and returns the report made while it still runs."""
    clients = [client for load in fault.load for client in start_load(options, server, load, seconds)]
    try:
        time.sleep(4)
        if server.group:
            server.group.tighten(server.process.pid)
        time.sleep(seconds - 4)
        report = server.report(min(600, max(10, int(seconds - 5))))
    finally:
        for client in clients:
            if isinstance(client, threading.Thread):
                client.join(30)
                continue
            client.send_signal(signal.SIGINT)
            try:
                client.wait(20)
            except subprocess.TimeoutExpired:
                client.kill()
    return report


METRICS = {"output_tokens_per_s": ("load", "output_rate"), "itl_p50_s": ("latency", "itl", "p50"), "itl_p99_s": ("latency", "itl", "p99"),
           "ttft_p50_s": ("latency", "ttft", "p50"), "ttft_p95_s": ("latency", "ttft", "p95")}


def metric_of(report, name):
    if name == "kv_tokens":
        return report["context"]["blocks"] * report["context"]["block_tokens"]
    value = report["measured"]
    for key in METRICS.get(name, ()):
        value = value[key]
    return value.get("value")


def suggested(fault, finding):
    """The server and load with the suggestion followed, and how to call that; None: it suggests nothing that can be tried."""
    flag = finding["suggest"].get("flag")
    if not finding.get("effect"):
        return None
    if flag:
        healed = fault.cured() if fault.group and not fault.cure else Fault(fault.name, "", fault.server, fault.load, fault.binary,
                                                                             fault.prefix, fault.group)
        healed.server = with_options(fault.server, flag.split())
        return healed, flag
    return (fault.cured(), "cause removed") if fault.cure else None


def block(options, server, fault, metric):
    """The metric as the client of the first load sees it in one short block of load."""
    with tempfile.TemporaryDirectory() as folder:
        clients = []
        for i, load in enumerate(fault.load):
            clients.append(subprocess.Popen([str(options.binary), "bench", f"http://127.0.0.1:{server.port}", "--quiet", "--warm-up", "0",
                                             "--duration", str(options.block), "--json", f"{folder}/{i}.json", *load],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for client in clients:
            client.wait(120)
        summary = json.loads(pathlib.Path(folder, "0.json").read_text())["runs"][0]["summary"]
    if metric == "output_tokens_per_s":
        return summary["output_rate"][0]
    name, quantile, _ = metric.split("_")
    of = summary["latency_ms"][name]
    return next((of[q][0] for q in (quantile, "p95", "p90") if of.get(q) and of[q][0]), None)


def pairs(options, fault, healed, metric):
    """The median of the metric's ratios, changed over faulty, of pairs of blocks in alternating order."""
    ratios = []
    with Server(options, fault) as faulty, Server(options, healed) as changed:
        for i in range(options.pairs):
            turns = [("faulty", faulty, fault), ("changed", changed, healed)]
            values = {name: block(options, server, of, metric) for name, server, of in (turns if i % 2 == 0 else reversed(turns))}
            if values["faulty"] and values["changed"]:
                ratios.append(values["changed"] / values["faulty"])
    return sorted(ratios)[len(ratios) // 2] if ratios else None


def one_after_the_other(options, healed, metric, before):
    with Server(options, healed) as server:
        after = load(options, server, healed, options.seconds)
    first, second = metric_of(before, metric), metric_of(after, metric)
    return second / first if first and second else None


def try_suggestion(options, fault, finding, before):
    """The measured factor of the finding's metric with its suggestion followed; None: there is none to follow."""
    follow = suggested(fault, finding)
    if not follow:
        return None
    healed, what = follow
    metric, low, high = finding["effect"]["metric"], finding["effect"]["factor"]["low"], finding["effect"]["factor"]["high"]
    if fault.in_turn and metric != "kv_tokens":
        measured = pairs(options, fault, healed, metric)
    else:
        measured = one_after_the_other(options, healed, metric, before)
    if not measured:
        return None
    return {"flag": what, "metric": metric, "low": low, "high": high, "measured": measured, "held": low <= measured <= high}


def busy_share(seconds):
    """Of the machine's processors, now."""
    def read():
        values = [int(v) for v in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(values), values[3] + values[4]
    total, idle = read()
    time.sleep(seconds)
    total_then, idle_then = read()
    return 1 - (idle_then - idle) / max(1, total_then - total)


def is_about_others(finding):
    return finding["id"] == "R39" and finding["diagnosis"].startswith("Other processes")


def run(options, fault):
    others = busy_share(1)
    with Server(options, fault) as server:
        report = load(options, server, fault, options.seconds)
    findings = [f for f in report["findings"] if others < CROWDED or not is_about_others(f)]
    top = findings[0]["id"] if findings else report["verdict"]["class"]
    result = {"fault": fault.name, "expected": fault.expects, "top": top, "found": top in fault.expects, "others": others,
              "all": [f["id"] for f in findings], "headline": report["verdict"]["headline"],
              "diagnosis": findings[0].get("diagnosis") if findings else None, "report": report}
    if result["found"] and not options.no_effect:
        result["effect"] = try_suggestion(options, fault, findings[0], report)
    return result


def show(result):
    mark = "found" if result["found"] else "MISSED"
    crowd = f", others take {100 * result['others']:.0f} %" if result.get("others", 0) >= CROWDED else ""
    print(f"{mark:6}  {result['fault']}: {', '.join(result['all']) or result['top']} (expected {' or '.join(result['expected'])}{crowd})")
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
    parser.add_argument("--block", type=float, default=5, help="seconds of a block, where the faulty and the changed server take turns")
    parser.add_argument("--pairs", type=int, default=5)
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
