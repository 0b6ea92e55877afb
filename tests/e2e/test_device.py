"""Devices: --device takes the CPU or a plugin; a device that fails gives errors and an end, never a hang.

tests/kernels/plugin_cpu.c is the CPU behind a plugin that fails at the first step that draws with seed 666.
"""

import json
import socket
import subprocess
import threading
import unittest

import common

FATAL_SEED = 666
PROMPT = {"prompt": "Once upon a time", "max_tokens": 24, "seed": 5}


def plugin(name):
    return common.binary.parent / "tests" / f"plugin_{name}.so"


def complete(running, **fields):
    status, _, body = common.post(running, "/v1/completions", {**PROMPT, **fields})
    return status, json.loads(body)


class Choice(unittest.TestCase):
    def refuses(self, *arguments, mention):
        done = subprocess.run(
            [str(common.binary), *map(str, arguments)], capture_output=True, timeout=60, stdin=subprocess.DEVNULL
        )
        lines = done.stderr.decode().splitlines()
        self.assertEqual((done.returncode, len(lines)), (1, 1), done.stderr)
        self.assertIn(mention, lines[0])

    def test_a_plugin_serves_what_the_cpu_serves(self):
        on_cpu, on_plugin = common.server("--device", "cpu"), common.server("--device", str(plugin("cpu")))
        self.assertIn("plugin 0", on_plugin.output())
        self.assertEqual(complete(on_cpu)[1]["choices"], complete(on_plugin)[1]["choices"])

    def test_a_device_that_cannot_be_opened_is_one_line(self):
        for device, mention in [
            ("./no_such_plugin.so", "there is no ./no_such_plugin.so"),
            (plugin("other_door"), "another version of Optima"),
            ("gpu", 'no device "gpu"'),
        ]:
            with self.subTest(device=device):
                self.refuses("serve", "--port", "0", "--device", device, mention=mention)
                self.refuses("inspect", "--device", device, mention=mention)
                self.refuses("chat", "demo", "--device", device, mention=mention)

    def test_auto_says_what_it_took(self):
        self.assertRegex(common.server("--device", "auto").output(), r"device   (cuda|cpu.*, because )")


class Failure(unittest.TestCase):
    def test_a_failed_step_answers_everyone_and_ends_the_server(self):
        # Plain kernels are slow enough that what lives has not ended by itself when the device fails.
        running = common.Server(["--device", str(plugin("cpu")), "--instruction-set", "ref"])
        long = {**PROMPT, "max_tokens": 900, "ignore_eos": True}
        answers = {}

        def ask(stream):
            answers[stream] = common.post(running, "/v1/completions", {**long, "stream": stream})

        living = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
        for thread in living:
            thread.start()
        self.assertTrue(common.eventually(lambda: common.metric(running, "vllm:generation_tokens_total") >= 4, 60))

        # A request whose body has not come keeps the server from ending, so that it can be asked for its health.
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as slow:
            body = json.dumps(PROMPT).encode()
            head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            slow.sendall(head.encode() + body[:1])
            status, answer = complete(running, seed=FATAL_SEED)
            self.assertEqual((status, answer["error"]["type"]), (500, "server_error"))
            for thread in living:
                thread.join()
            for path in ("/health", "/v1/models"):
                status, _, text = common.get(running, path)
                self.assertEqual(status, 503 if path == "/health" else 200, text)
            self.assertEqual(json.loads(common.get(running, "/health")[2])["error"]["code"], "device_failed")
            self.assertEqual(complete(running)[0], 503)
            slow.sendall(body[1:])
            self.assertIn(b" 503 ", slow.recv(65536))
        self.assertEqual(running.process.wait(timeout=30), 1)

        status, _, whole = answers[False]
        self.assertEqual((status, json.loads(whole)["error"]["type"]), (500, "server_error"))
        status, _, streamed = answers[True]
        self.assertEqual(status, 200)
        events = streamed.decode().split("\n\n")
        self.assertEqual(json.loads(events[0].removeprefix("data: "))["choices"][0]["finish_reason"], None)
        self.assertIn('"type":"server_error"', streamed.decode())
        last = running.output().splitlines()[-1]
        self.assertEqual(last, "optima serve: a step failed: the device fell off the bus")


if __name__ == "__main__":
    unittest.main()
