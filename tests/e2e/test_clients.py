"""Clients that leave, read slowly, come in crowds or without a key; the drain at the end."""

import concurrent.futures
import json
import pathlib
import signal
import socket
import tempfile
import unittest

import common
import models

LONG = {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True, "stream": True}


def open_request(running, path, body, receive_bytes=None):
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", running.port))
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def read_all(connection):
    """The body of a chunked answer, and how many writes it came in."""
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        piece = connection.recv(65536)
        assert piece, "the server closed early"
        received += piece
    body, rest, sizes = b"", received.split(b"\r\n\r\n", 1)[1], []
    while True:
        size, rest = rest.split(b"\r\n", 1)
        n = int(size, 16)
        if n == 0:
            return body, sizes
        body, rest = body + rest[:n], rest[n + 2 :]
        sizes.append(rest[:0])


def is_idle(running):
    return not any(common.metric(running, f"vllm:{name}") for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"))


class Clients(unittest.TestCase):
    def setUp(self):
        self.server = models.small_server()

    def tearDown(self):
        self.assertTrue(common.eventually(lambda: is_idle(self.server)))
        self.assertEqual(common.post(self.server, "/v1/completions", {"prompt": "x", "max_tokens": 2})[0], 200)

    def test_a_client_that_leaves_frees_its_rows(self):
        before = common.metric(self.server, "vllm:request_success_total", "abort")
        for n, stream, wait in ((1, True, True), (8, True, True), (8, False, False), (1, True, False)):
            for _ in range(5):
                connection = open_request(self.server, "/v1/completions", {**LONG, "n": n, "stream": stream})
                if wait:
                    connection.recv(100)
                connection.close()
        crowd = [open_request(self.server, "/v1/completions", LONG) for _ in range(100)]
        for connection in crowd:
            connection.close()
        self.assertTrue(common.eventually(lambda: is_idle(self.server)))
        self.assertGreater(common.metric(self.server, "vllm:request_success_total", "abort"), before)

    def test_every_event_is_one_chunk(self):
        body, _ = read_all(open_request(self.server, "/v1/completions", LONG))
        self.assertEqual(models.events(body)[-1], "[DONE]")

    def test_a_slow_reader_stops_nobody_and_loses_nothing(self):
        body = {**LONG, "temperature": 0, "logprobs": 5, "n": 8}
        whole = json.loads(common.post(self.server, "/v1/completions", {**body, "stream": False})[2])
        slow = open_request(self.server, "/v1/completions", body, receive_bytes=4096)
        self.assertEqual(common.post(self.server, "/v1/completions", {**LONG, "stream": False})[0], 200)
        self.assertTrue(common.eventually(lambda: common.metric(self.server, "vllm:num_requests_running") == 0))
        texts = [""] * 8
        for chunk in models.chunks(read_all(slow)[0]):
            choice = chunk["choices"][0]
            texts[choice["index"]] += choice["text"]
        self.assertEqual(texts, [choice["text"] for choice in whole["choices"]])

    def test_requests_on_one_connection_are_answered_in_order(self):
        connection = open_request(self.server, "/v1/completions", LONG)
        data = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
        second = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(second.encode() + data)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        self.assertEqual(received.count(b"HTTP/1.1 200"), 2)
        self.assertLess(received.index(b"[DONE]"), received.rindex(b"HTTP/1.1 200"))


class Crowd(unittest.TestCase):
    def test_a_full_queue_says_when_to_come_again(self):
        running = models.small_server("--sequences", "1", "--queue", "1")
        body = {**LONG, "stream": False}
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: common.post(running, "/v1/completions", body), range(48)))
        self.assertEqual({status for status, _, _ in answers}, {200, 429})
        for answer in answers:
            if answer[0] == 429:
                self.assertTrue(1 <= int(answer[1]["Retry-After"]) <= 60)
                self.assertEqual(int(answer[1]["retry-after-ms"]), 1000 * int(answer[1]["Retry-After"]))
                error = models.error_of(answer)
                self.assertEqual((error["type"], error["code"]), ("rate_limit_error", "rate_limit_exceeded"))
        self.assertGreater(common.metric(running, "vllm:admission_rejections_total"), 0)

    def test_a_batch_larger_than_the_queue_waits_for_itself(self):
        running = models.small_server("--sequences", "1", "--queue", "1")
        answer = common.post(running, "/v1/completions", {"prompt": ["Once"] * 20, "max_tokens": 3, "ignore_eos": True})
        self.assertEqual(answer[0], 200, answer[2])
        self.assertEqual(json.loads(answer[2])["usage"]["completion_tokens"], 60)


class Keys(unittest.TestCase):
    def test_only_health_is_open(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "keys"
            path.write_text("secret-one\nsecret-two\n")
            running = models.small_server("--api-keys", str(path))
            self.assertEqual(common.get(running, "/health")[0], 200)
            body = {"prompt": "x", "max_tokens": 1}
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer secret-on"}, {"Authorization": "Bearer secret-one "[:-1] + "x"}):
                for answer in (common.get(running, "/v1/models", headers=headers), common.get(running, "/metrics", headers=headers),
                               common.post(running, "/v1/completions", body, headers=headers)):  # fmt: skip
                    self.assertEqual(answer[0], 401)
                    error = models.error_of(answer)
                    self.assertEqual((error["type"], error["code"]), ("invalid_request_error", "invalid_api_key"))
            for headers in ({"Authorization": "Bearer secret-one"}, {"authorization": "bearer secret-two"}, {"x-api-key": "secret-one"}):
                self.assertEqual(common.post(running, "/v1/completions", body, headers=headers)[0], 200)


class Metrics(unittest.TestCase):
    def test_page(self):
        running = models.small_server()
        common.post(running, "/v1/completions", {"prompt": "Once", "max_tokens": 4, "ignore_eos": True})
        status, headers, body = common.get(running, "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        text = body.decode()
        for name in ("num_requests_running", "num_requests_waiting", "num_requests_waiting_by_reason", "kv_cache_usage_perc", "cache_config_info",
                     "prompt_tokens_total", "prompt_tokens_cached_total", "generation_tokens_total", "request_success_total",
                     "num_preemptions_total", "prefix_cache_queries_total", "prefix_cache_hits_total", "time_to_first_token_seconds_bucket",
                     "inter_token_latency_seconds_bucket", "request_time_per_output_token_seconds_bucket", "e2e_request_latency_seconds_bucket",
                     "request_queue_time_seconds_bucket", "request_prefill_time_seconds_bucket", "request_decode_time_seconds_bucket",
                     "iteration_tokens_total_count", "admission_rejections_total"):  # fmt: skip
            self.assertIn(f"vllm:{name}{{", text)
        self.assertIn('http_requests_total{handler="/v1/completions",method="POST",status="2xx"}', text)
        counts = {}
        for line in text.splitlines():
            if "_bucket{" in line:
                series, value = line.rsplit(" ", 1)
                series = series.split(',le="')[0]
                self.assertGreaterEqual(float(value), counts.get(series, 0), line)
                counts[series] = float(value)
        self.assertGreater(common.metric(running, "vllm:generation_tokens_total"), 3)


class Drain(unittest.TestCase):
    def test_running_streams_end_before_the_server_does(self):
        arguments = [str(models.with_template(models.STORIES))] if models.STORIES.is_dir() else []
        running = common.Server(arguments)
        connection = open_request(running, "/v1/completions", {**LONG, "n": 8})
        connection.recv(1)
        running.process.send_signal(signal.SIGTERM)
        connection.settimeout(60)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        self.assertTrue(received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), received[-100:])
        self.assertEqual(running.process.wait(60), 0, running.output())

    def stop_early(self, arguments, *signals):
        """What a stream of a busy server ends with when its time is up."""
        folder = [str(models.with_template(models.STORIES))] if models.STORIES.is_dir() else []
        running = common.Server([*folder, *arguments])
        connection = open_request(running, "/v1/completions", {**LONG, "n": 8, "prompt": ["Once"] * 200})
        connection.recv(1)
        received = b""
        for number in signals:
            running.process.send_signal(number)
            running.process.poll()
            common.eventually(lambda: "draining" in running.output())
        while piece := connection.recv(65536):
            received += piece
        self.assertEqual(running.process.wait(60), 0, running.output())
        self.assertIn(b'data: {"error":{"message":"The server is shutting down."', received)
        self.assertTrue(received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), received[-100:])

    def test_the_deadline_ends_streams_with_an_error(self):
        self.stop_early(["--drain", "0.05"], signal.SIGTERM)

    def test_the_second_signal_ends_at_once(self):
        self.stop_early(["--drain", "600"], signal.SIGTERM, signal.SIGINT)
