"""What speculation gains: tokens a second with each way of guessing over those without, at several numbers of streams.

    speculation.py [--binary build/optima] [--model PATH | --config CONFIG] [--text chat|repeat] [--streams 1,8,32] [--rounds 3]
                   [--tokens 200] [--threads 1] [--how off,draft,ngram,draft/1,...]

HOW is what --speculate takes; HOW/K guesses K tokens always, without the governor. One server for each, all started first; the
rounds take them in turn, so that a noisy machine disturbs all alike. Printed: the median of the ratios to `off` of the same round with
their spread, by the clock and by processor time, which on a busy machine and with --threads 1 is the steadier one; the share of drafts
accepted; the gain that the server reports. What measured acceptance and step times allow is the best
of the rows with a fixed K. Standard library only.
"""

import argparse
import concurrent.futures
import json
import os
import re
import statistics
import subprocess
import time
import urllib.request

CHAT = ["Hello!", "Who are you?", "Tell me a story about a cat.", "Tell me a story about a little boat.", "What is 3 + 4?", "Name three animals.",
        "Why is the sky blue?", "I am sad.", "Tell me a story.", "Tell me a story about a dog and a ball."]
REPEAT = "One red ball, two blue kites, three green boats, four old keys, five small cups. "


class Server:
    def __init__(self, binary, arguments):
        self.process = subprocess.Popen([binary, "serve", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            found = re.search(r"listens on (http://\S+)", line)
            if found:
                self.url = found.group(1)
            if line.startswith("ready"):
                break
        self.wait()

    def wait(self):
        while True:
            try:
                urllib.request.urlopen(self.url + "/health").read()
                return
            except OSError:
                time.sleep(0.05)

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.loads(urllib.request.urlopen(request, timeout=600).read())

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metrics(self):
        found = {}
        for line in urllib.request.urlopen(self.url + "/metrics").read().decode().splitlines():
            match = re.match(r"([a-zA-Z_:0-9]+)(\{[^}]*\})? ([^ ]+)$", line)
            if match and "position" not in line:
                found[match.group(1)] = float(match.group(3))
        return found


def ask(server, options, i):
    sampling = {"max_tokens": options.tokens, "temperature": [0, 1][i % 2], "seed": i, "ignore_eos": options.text == "repeat"}
    if options.text == "repeat":
        return server.post("/v1/completions", {"prompt": f"{i}. " + REPEAT * 6, **sampling, "temperature": 0})
    return server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": CHAT[i % len(CHAT)]}], **sampling})


def run(server, options, streams, first):
    """Tokens a second of that many streams that ask one after the other, and what the metrics say about it."""
    before, began, processor = server.metrics(), time.monotonic(), server.processor_seconds()
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        list(pool.map(lambda i: ask(server, options, first + i), range(streams * options.each)))
    seconds, after = time.monotonic() - began, server.metrics()
    change = {name: after[name] - before.get(name, 0) for name in after}
    tokens = change["vllm:generation_tokens_total"]
    return {
        "rate": tokens / seconds,
        "work": tokens / max(server.processor_seconds() - processor, 0.01),
        "drafted": change.get("vllm:spec_decode_num_draft_tokens_total", 0),
        "accepted": change.get("vllm:spec_decode_num_accepted_tokens_total", 0),
        "tokens": tokens,
        "gain": after.get("optima_speculation_gain", 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="build/optima")
    parser.add_argument("--model")
    parser.add_argument("--config")
    parser.add_argument("--text", choices=["chat", "repeat"], default="chat")
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--each", type=int, default=2, help="requests of each stream in a round")
    parser.add_argument("--threads")
    parser.add_argument("--how", default="off,draft,ngram")
    options = parser.parse_args()
    model = ["--random-weights", options.config] if options.config else [options.model] if options.model else []
    model += ["--threads", options.threads] if options.threads else []
    servers = {}
    for how in options.how.split(","):
        kind, _, fixed = how.partition("/")
        servers[how] = Server(options.binary, [*model, "--no-prefix-cache", "--speculate", kind, *(["--draft-tokens", fixed] if fixed else [])])
    print(f"load average {os.getloadavg()[0]:.1f} at the beginning")
    for streams in map(int, options.streams.split(",")):
        rounds = []
        for number in range(options.rounds + 1):  # the first one is to warm up
            rounds.append({how: run(server, options, streams, 100 * number) for how, server in servers.items()})
        for how in servers:
            ratios = sorted(r[how]["rate"] / r["off"]["rate"] for r in rounds[1:])
            works = sorted(r[how]["work"] / r["off"]["work"] for r in rounds[1:])
            total = {key: sum(r[how][key] for r in rounds[1:]) for key in ("drafted", "accepted", "tokens")}
            print(f"{streams:3} streams {how:10} {statistics.median(r[how]['rate'] for r in rounds[1:]):8.0f} tokens/s, {statistics.median(ratios):5.2f} "
                  f"({ratios[0]:.2f} to {ratios[-1]:.2f}) of off, by processor time {statistics.median(works):5.2f} ({works[0]:.2f} to {works[-1]:.2f}); {total['accepted']:.0f} of {total['drafted']:.0f} drafts accepted, "
                  f"{total['accepted'] / total['tokens']:.0%} of the tokens; reported gain {rounds[-1][how]['gain']:.2f}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f} at the end")
    for server in servers.values():
        server.process.terminate()
        server.process.wait()


if __name__ == "__main__":
    main()
