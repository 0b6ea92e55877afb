"""A request with a seed gets the same answer alone, in a full batch, after a prefix hit, with any chunk size and thread count,
and after preemption."""

import concurrent.futures
import functools
import json
import unittest

import common

WORDS = "the cat and the dog went to the river to look for a red ball that had been lost in the garden".split()


def question(i):
    """Request i: prompts of many lengths, greedy and sampled."""
    text = " ".join(WORDS[(i * 7 + k) % len(WORDS)] for k in range(5 + i * 11 % 90))
    return {
        "prompt": f"Story {i}. {text}",
        "max_tokens": 70 + i % 9,
        "temperature": [0, 0.8, 1.3][i % 3],
        "top_p": [1, 0.9][i % 2],
        "top_k": [0, 40][i % 2],
        "presence_penalty": [0, 0, 0.5, 0][i % 4],
        "seed": i,
        "ignore_eos": True,
        "logprobs": [None, 2][i % 2],
    }


def answer(running, i):
    status, _, body = common.post(running, "/v1/completions", question(i))
    assert status == 200, body
    choice = json.loads(body)["choices"][0]
    return choice["text"], choice["logprobs"]


N = 24


@functools.cache
def answers_alone():
    alone = common.server("--no-prefix-cache", "--threads", "1")
    return [answer(alone, i) for i in range(N)]


class Determinism(unittest.TestCase):

    def check(self, running, parallel):
        with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
            got = list(pool.map(lambda i: answer(running, i), range(N)))
        for i in range(N):
            self.assertEqual(got[i], answers_alone()[i], f"request {i}")

    def test_in_a_full_batch_and_after_prefix_hits(self):
        running = common.server()
        self.check(running, N)
        self.check(running, N)
        self.assertGreater(common.metric(running, "vllm:prefix_cache_hits_total"), 0)

    def test_with_small_chunks_and_two_steps_in_flight(self):
        self.check(common.server("--chunk", "5", "--rows", "24", "--steps-in-flight", "2"), N)

    def test_after_preemption(self):
        # 32 blocks of 16 tokens for 24 sequences that grow to 12 blocks each: they cannot all stay.
        running = common.server("--context", "256", "--kv-gib", "0.0035")
        self.check(running, N)
        self.assertGreater(common.metric(running, "vllm:num_preemptions_total"), 0)


if __name__ == "__main__":
    unittest.main()
