"""The CUDA plugin under the emulation serves: known greedy text, every weight format, the same answer at any load.

The emulation runs every thread of every kernel, so that models are small and answers short.
"""

import concurrent.futures
import json
import subprocess
import unittest

import common
import models

SMALL = ("--rows", "64", "--sequences", "8", "--context", "256")
N_PARALLEL = 6


def plugin():
    return common.binary.parent / "emulated" / "liboptima_cuda.so"


def device():
    return common.cuda_device or str(plugin())


def cuda_server(*arguments):
    return common.server(*arguments, "--device", device(), *SMALL)


def complete(running, **fields):
    status, _, body = common.post(running, "/v1/completions", {"ignore_eos": True, **fields})
    assert status == 200, body
    return json.loads(body)["choices"][0]


def question(i):
    """Request i: prompts of many lengths, greedy and sampled."""
    words = "the cat and the dog went to the river to look for a red ball".split()
    text = " ".join(words[(i * 5 + k) % len(words)] for k in range(3 + i * 13 % 40))
    sampling = {"temperature": [0, 1.1][i % 2], "top_p": [1, 0.9][i % 2], "top_k": [0, 40][i % 2]}
    edits = {"logit_bias": {str(7 * i): -100, "11": 1.5}, "presence_penalty": 0.4, "frequency_penalty": 0.1 * i}
    return {"prompt": f"Story {i}. {text}", "max_tokens": 12 + i, "seed": i, "logprobs": 1, **sampling, **edits}


@unittest.skipUnless(common.cuda_device or plugin().exists(), "the emulated plugin was not built")
class Cuda(unittest.TestCase):
    def test_greedy_text_is_exact(self):
        if not models.STORIES.is_dir():
            self.skipTest("shared/data/models/stories260K is not here")
        running = cuda_server(str(models.STORIES), "--kv-format", "f32")
        self.assertRegex(running.output(), r"device   .*, compute capability")
        cases = models.expected_greedy()

        def text_of(case):
            return complete(running, prompt=case["prompt"], max_tokens=48, temperature=0)["text"]

        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
            for case, text in zip(cases, pool.map(text_of, cases)):
                self.assertTrue(case["text"].startswith(case["prompt"] + text), (case["text"], text))

    def test_draws_are_those_of_the_cpu(self):
        if not models.STORIES.is_dir():
            self.skipTest("shared/data/models/stories260K is not here")
        on_cpu = common.server(str(models.STORIES), "--device", "cpu")
        running = cuda_server(str(models.STORIES), "--kv-format", "f32")
        for i in range(N_PARALLEL):
            want, got = complete(on_cpu, **question(i)), complete(running, **question(i))
            self.assertEqual(got["text"], want["text"], f"request {i}")
            pairs = zip(got["logprobs"]["token_logprobs"], want["logprobs"]["token_logprobs"])
            self.assertTrue(all(abs(a - b) < 1e-3 for a, b in pairs), f"request {i}")

    def test_every_format_of_weights_writes_a_story(self):
        for weights in ("int4", "fp8", "auto")[: 1 if common.sanitizer() else 3]:
            with self.subTest(weights=weights):
                running = cuda_server("--weights", weights)
                got = complete(running, prompt="Once upon a time", max_tokens=5, temperature=0)
                self.assertRegex(got["text"], r"^,? there (was|were) ")

    def test_a_deterministic_device_gives_the_same_answer_at_any_load(self):
        running = cuda_server("--deterministic", "--no-prefix-cache")
        n = N_PARALLEL // 2 if common.sanitizer() else N_PARALLEL
        alone = [complete(running, **question(i)) for i in range(n)]
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            together = list(pool.map(lambda i: complete(running, **question(i)), range(n)))
        for i in range(n):
            self.assertEqual(together[i], alone[i], f"request {i}")

    def test_a_format_that_the_device_lacks_is_one_line(self):
        done = subprocess.run(
            [str(common.binary), "serve", "--port", "0", "--device", device(), "--weights", "int8"],
            capture_output=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        lines = done.stderr.decode().splitlines()
        self.assertEqual((done.returncode, len(lines)), (1, 1), done.stderr)
        self.assertIn("int8", lines[0])


if __name__ == "__main__":
    unittest.main()
