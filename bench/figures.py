"""The figures that the project promises, each printed beside its limit. Standard library and curl only.

    figures.py [--binary build/optima] [--stories FOLDER] [startup|stream|map|decode|prompt ...]

startup  process start to the first streamed token of the demo model, against 150 ms
stream   one stream of a 260 K-parameter model over HTTP by curl, against 4,000 tokens/s (--stories: its folder)
map      process start to serving of 2 GB of weights in the page cache, against 2 s
decode   one stream of a 0.6 B-shaped BF16 model, against the memory bandwidth measured in the same run
prompt   32 streams of that model while a prompt of 8,000 tokens arrives: the longest gap, against one chunk

Machines are shared and noisy: medians of several runs, and a limit measured between them.
"""

import argparse
import http.client
import json
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHAPE = ROOT / "bench" / "shapes" / "qwen3-0.6b.json"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, binary, *arguments):
        self.port = free_port()
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [str(binary), "serve", "--port", str(self.port), *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def post(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse()

    def wait_until_ready(self):
        """Seconds from process start until /health answers 200."""
        while self.process.poll() is None:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return time.perf_counter() - self.started
            except OSError:
                pass
            time.sleep(0.002)
        raise SystemExit("the server did not start")

    def metric(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return sum(float(v) for v in re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.M))


def token_times(response):
    """The arrival time of every event that carries text."""
    for line in response:
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:]).get("choices") or [{}]
            if choices[0].get("text") or choices[0].get("delta", {}).get("content"):
                yield time.perf_counter()


def tokens_per_s_max(binary):
    """What one stream of the shape could reach: the memory bandwidth, measured now, over the weights that a token reads."""
    command = [str(binary), "inspect", "--random-weights", str(SHAPE), "--hardware"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    bandwidth = re.search(r"memory +([0-9.]+) GB/s read", text).group(1)
    return float(re.search(r"at most ([0-9.]+) tokens/s", text).group(1)), bandwidth


def report(name, value, unit, limit, note=""):
    print(f"{name:<10} {value:>10.1f} {unit:<9} limit {limit:>10.1f} {unit:<9} {note}", flush=True)


def startup(options):
    times = []
    for _ in range(11):
        with Server(options.binary) as server:
            while True:
                try:
                    response = server.post(
                        "/v1/chat/completions",
                        {"messages": [{"role": "user", "content": "Hello!"}], "stream": True, "max_tokens": 4},
                    )
                    if response.status == 200:
                        times.append((next(token_times(response)) - server.started) * 1e3)
                        break
                except OSError:
                    pass
                time.sleep(0.001)
    report("startup", statistics.median(times), "ms", 150, f"{min(times):.0f} to {max(times):.0f} in {len(times)} starts")


def stream(options):
    with Server(options.binary, options.stories) as server:
        server.wait_until_ready()
        body = {"prompt": "Once upon a time", "max_tokens": 480, "temperature": 0, "ignore_eos": True, "stream": True}
        rates, step_us = [], []
        for _ in range(15):
            steps, busy = server.metric("vllm:iteration_tokens_total_count"), server.metric("optima_busy_seconds_total")
            out = subprocess.run(
                ["curl", "-sN", "-o", "/dev/null", "-w", "%{time_starttransfer} %{time_total}", "-H",
                 "Content-Type: application/json", "-d", json.dumps(body),
                 f"http://127.0.0.1:{server.port}/v1/completions"],
                capture_output=True, text=True, check=True,
            )
            first, total = map(float, out.stdout.split())
            rates.append(480 / (total - first))
            steps = server.metric("vllm:iteration_tokens_total_count") - steps
            step_us.append((server.metric("optima_busy_seconds_total") - busy) / max(steps, 1) * 1e6)
    rate, model = statistics.median(rates), statistics.median(step_us)
    report("stream", rate, "tokens/s", 4000, f"{1e6 / rate:.0f} us a token, of which the model {model:.0f} us")


def write_model_of_2_gb(folder):
    """A Qwen3-shaped folder whose tensors hold 2 GB; the values do not matter."""
    config = json.loads(SHAPE.read_text())
    config.update(num_hidden_layers=32, hidden_size=1280, intermediate_size=4096)
    hidden, mlp, q, kv = 1280, 4096, 16 * 128, 8 * 128
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in [
            ("self_attn.q_proj", [q, hidden]), ("self_attn.k_proj", [kv, hidden]), ("self_attn.v_proj", [kv, hidden]),
            ("self_attn.o_proj", [hidden, q]), ("self_attn.q_norm", [128]), ("self_attn.k_norm", [128]),
            ("mlp.gate_proj", [mlp, hidden]), ("mlp.up_proj", [mlp, hidden]), ("mlp.down_proj", [hidden, mlp]),
            ("input_layernorm", [hidden]), ("post_attention_layernorm", [hidden]),
        ]:
            shapes[f"{layer}{name}.weight"] = shape
    header, offset = {}, 0
    for name, shape in shapes.items():
        n_bytes = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + n_bytes]}
        offset += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    piece = struct.pack("<H", 0x3C00) * (1 << 19)  # 1 MiB of 0.0078125 in BF16
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for at in range(0, offset, len(piece)):
            out.write(piece[: min(len(piece), offset - at)])
    (folder / "config.json").write_text(json.dumps(config))
    demo = ROOT / "models" / "demo"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((demo / name).read_bytes())
    return offset


def map_weights(options):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        n_bytes = write_model_of_2_gb(folder)
        (folder / "model.safetensors").read_bytes()  # warms the page cache
        times = []
        for _ in range(5):
            with Server(options.binary, folder) as server:
                times.append(server.wait_until_ready())
    report("map", statistics.median(times) * 1e3, "ms", 2000, f"{n_bytes / 1e9:.2f} GB of weights, warm page cache")


def decode(options):
    with Server(options.binary, "--random-weights", SHAPE, "--context", 2048) as server:
        server.wait_until_ready()
        shares, rates, bandwidths = [], [], []
        for _ in range(5):
            limit, bandwidth = tokens_per_s_max(options.binary)
            body = {"prompt": "Once", "max_tokens": 48, "ignore_eos": True, "stream": True, "temperature": 0}
            times = list(token_times(server.post("/v1/completions", body)))
            rates.append((len(times) - 1) / (times[-1] - times[0]))
            shares.append(100 * rates[-1] / limit)
            bandwidths.append(bandwidth)
    report("decode", statistics.median(shares), "% of read", 80,
           f"{statistics.median(rates):.1f} tokens/s; read bandwidth between runs {', '.join(bandwidths)} GB/s")


def prompt(options):
    with Server(options.binary, "--random-weights", SHAPE, "--context", 10240) as server:
        server.wait_until_ready()
        gaps, lock, stop = [], threading.Lock(), threading.Event()

        def reader():
            body = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True, "temperature": 0}
            last = None
            for at in token_times(server.post("/v1/completions", body)):
                if last is not None:
                    with lock:
                        gaps.append((at, at - last))
                last = at
                if stop.is_set():
                    return

        threads = [threading.Thread(target=reader, daemon=True) for _ in range(32)]
        for thread in threads:
            thread.start()
        time.sleep(20)
        started, steps = time.perf_counter(), server.metric("vllm:iteration_tokens_total_count")
        ids = [(i * 37) % 4000 + 10 for i in range(8000)]
        server.post("/v1/completions", {"prompt": ids, "max_tokens": 1}).read()
        ended, steps = time.perf_counter(), server.metric("vllm:iteration_tokens_total_count") - steps
        stop.set()
        with lock:
            quiet = statistics.median(g for at, g in gaps if at < started)
            during = [g for at, g in gaps if started < at <= ended]
        step = (ended - started) / steps
    report("prompt", max(during), "s", 1.5 * step,
           f"longest gap of 32 streams; a step with a chunk takes {step:.2f} s on average, one without {quiet:.2f} s; "
           f"the prompt took {ended - started:.1f} s in {steps:.0f} steps")


def main():
    figures = {"startup": startup, "stream": stream, "map": map_weights, "decode": decode, "prompt": prompt}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "build" / "optima")
    parser.add_argument("--stories", type=pathlib.Path, default=ROOT.parent / "shared/data/models/stories260K/hf")
    parser.add_argument("names", nargs="*", choices=[*figures, []], default=[])
    options = parser.parse_args()
    for name in options.names or figures:
        figures[name](options)


if __name__ == "__main__":
    sys.exit(main())
