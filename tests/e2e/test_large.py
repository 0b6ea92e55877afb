"""Very large texts stall nobody: they are refused by their length, and the server answers others meanwhile."""

import concurrent.futures
import json
import os
import pathlib
import unittest

import common
import models

MIB = 1 << 20
TEXTS = {
    "one letter": "a" * (24 * MIB),
    "spaces": " " * (24 * MIB),
    "newlines": "\n" * (12 * MIB),
    "digits": "7" * (24 * MIB),
    "emoji chain": "\U0001f468\u200d" * (3 * MIB),
    "combining marks": "a" + "\u0301" * (10 * MIB),
    "markers": "<|im_start|>" * (2 * MIB),
}


def niceness_of_threads(process):
    """The loop's own thread first."""
    tasks = sorted(pathlib.Path(f"/proc/{process.pid}/task").iterdir(), key=lambda task: int(task.name))
    return [int((task / "stat").read_text().rsplit(")", 1)[1].split()[16]) for task in tasks]


class Large(unittest.TestCase):
    def test_texts(self):
        running = models.small_server()

        def ask(item):
            name, text = item
            bodies = (("/v1/completions", {"prompt": text}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}))
            return name, [common.post(running, path, json.dumps(body, ensure_ascii=False).encode()) for path, body in bodies]

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = pool.map(ask, TEXTS.items())
            for _ in range(20):
                self.assertEqual(common.get(running, "/health")[0], 200)
                self.assertEqual(common.post(running, "/v1/completions", {"prompt": "x", "max_tokens": 1})[0], 200)
            for name, pair in answers:
                for answer in pair:
                    self.assertEqual(answer[0], 400, name)
                    self.assertEqual(models.error_of(answer)["code"], "context_length_exceeded", name)

    def test_structures(self):
        running = models.small_server()
        for body, status in (
            (b'{"prompt":[' + b"0," * (8 * MIB) + b"0]}", 400),
            (b'{"prompt":"x","max_tokens":1,"y":[' + b"[]," * 100000 + b"0]}", 200),
            (b'{"prompt":"x","max_tokens":1,' + b",".join(b'"k%d":0' % i for i in range(200000)) + b"}", 200),
            (b'{"prompt":"x","max_tokens":1,' + b",".join(b'"k":0' for i in range(200000)) + b"}", 400),
            (b'{"prompt":"x","max_tokens":1,"temperature":0.' + b"1" * MIB + b"}", 200),
            (b'{"prompt":"x","max_tokens":1,"seed":' + b"1" * MIB + b"}", 400),
            (b'{"messages":[' + b'{"role":"user","content":"x"},' * 100000 + b'{"role":"user","content":"x"}]}', 400),
        ):
            path = "/v1/chat/completions" if body.startswith(b'{"messages"') else "/v1/completions"
            self.assertEqual(common.post(running, path, body)[0], status, body[:60])
        self.assertEqual(common.post(running, "/v1/completions", b" " * (33 * MIB))[0], 413)

    def test_text_work_gives_way_to_the_loop(self):
        running = models.small_server()
        self.assertEqual(common.post(running, "/v1/completions", {"prompt": "x", "max_tokens": 1})[0], 200)
        loop, *others = niceness_of_threads(running.process)
        self.assertEqual(loop, os.getpriority(os.PRIO_PROCESS, 0))
        self.assertIn(min(loop + 5, 19), others)
