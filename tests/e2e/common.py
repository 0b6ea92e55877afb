"""What the end-to-end tests share: servers of their own, raw requests, the shared data folder.

A test module asks for a server with `server(*arguments)`. Servers with equal arguments are started once and serve
every test of the run; run.py stops them at the end.
"""

import atexit
import functools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
binary = ROOT / "build-test" / "optima"  # run.py sets what it was given
cuda_device = None  # likewise; None: the emulated one
os.environ.setdefault("TSAN_OPTIONS", f"suppressions={ROOT / 'tests' / 'tsan.supp'}")


def sanitizer():
    """What the program was built with: "thread", "address" or None. They make it slow, and the plain program passes every test in full."""
    data = binary.read_bytes()
    return "thread" if b"__tsan_init" in data else "address" if b"__asan_init" in data else None


def sees_no_threads(test):
    """Decorates a test of which ThreadSanitizer would see nothing that it does not see in others, after minutes."""
    @functools.wraps(test)
    def run(self):
        if sanitizer() == "thread":
            self.skipTest("nothing new for ThreadSanitizer")
        test(self)

    return run


class Server:
    """One `optima serve` process on a free port."""

    def __init__(self, arguments, launcher=(), environment=None):
        self.log = tempfile.NamedTemporaryFile("w+", prefix="optima-", suffix=".log")
        self.process = subprocess.Popen(
            [*launcher, str(binary), "serve", "--port", "0", *arguments],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        self.port = self._wait_for_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._wait_until_ready()

    def output(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def _wait_for_port(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = re.search(r"listens on http://[^ ]*:(\d+)", self.output())
            if found:
                return int(found.group(1))
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError("the server did not start:\n" + self.output())

    def _wait_until_ready(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if get(self, "/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError("the server did not become ready:\n" + self.output())

    def stop(self):
        """Ends it as an operator would; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


_servers = {}


def server(*arguments):
    """The running server with these arguments, started on first use."""
    if arguments not in _servers:
        _servers[arguments] = Server(list(arguments))
    return _servers[arguments]


def stop_servers():
    """Stops every shared server; returns a line for each that did not end with status 0."""
    failures = []
    for arguments, running in _servers.items():
        status = running.stop()
        if status != 0:
            failures.append(f"optima serve {' '.join(arguments)}: exit status {status}\n{running.output()}")
    _servers.clear()
    return failures


@atexit.register
def _kill_what_is_left():
    for running in _servers.values():
        if running.process.poll() is None:
            running.process.kill()


def request(running, method, path, body=None, headers=None, timeout=120):
    """One plain HTTP request: (status, headers, body bytes)."""
    data = None
    headers = dict(headers or {})
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    call = urllib.request.Request(running.url + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(call, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read()


def get(running, path, **options):
    return request(running, "GET", path, **options)


def post(running, path, body, **options):
    return request(running, "POST", path, body, **options)


def raw(running, data, timeout=10):
    """Sends bytes on a connection of its own and returns all that comes back until the server closes or is silent."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=timeout) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def client(running, **options):
    """The official OpenAI client, without retries, so that every answer is seen."""
    import openai

    options.setdefault("api_key", "none")
    return openai.OpenAI(base_url=running.url + "/v1", max_retries=0, **options)


def metric(running, name, labels=""):
    """The sum of a metric's samples whose label text contains `labels`."""
    total = 0.0
    for line in get(running, "/metrics")[2].decode().splitlines():
        found = re.match(r"([a-zA-Z_:0-9]+)(\{[^}]*\})? ([^ ]+)$", line)
        if found and found.group(1) == name and labels in (found.group(2) or ""):
            total += float(found.group(3))
    return total


def eventually(condition, seconds=10):
    """Waits until condition() holds; False when it never did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())
