"""Answers are the same with and without speculation, through the official client; /metrics counts what was guessed; a draft that
cannot be one is refused."""

import concurrent.futures
import subprocess
import unittest

import common
import test_determinism

QUESTIONS = ["Tell me a story about a cat.", "What is 2 plus 3?", "Say the word river five times.", "Tell me about a red ball."]


def chat(running, i):
    """Text, log probabilities, token count and reason of question i, at once and as a stream."""
    client = common.client(running)
    options = {
        "model": client.models.list().data[0].id,
        "messages": [{"role": "user", "content": QUESTIONS[i % 4]}],
        "max_tokens": 60 + i,
        "temperature": [0, 1, 0.7][i % 3],
        "top_p": [1, 0.9][i % 2],
        "frequency_penalty": [0, 0, 0.4][i % 3],
        "seed": i,
        "n": 1 + i % 2,
        "stop": [[], [" and"], ["\n\n", "big"]][i % 3] or None,
        "logprobs": i % 2 == 0,
    }
    answer = client.chat.completions.create(**options)
    streamed = [""] * options["n"]
    for chunk in client.chat.completions.create(stream=True, **options):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    texts = [choice.message.content for choice in answer.choices]
    assert streamed == texts, (streamed, texts)
    logprobs = [[entry.model_dump() for entry in choice.logprobs.content] if choice.logprobs else None for choice in answer.choices]
    return texts, logprobs, [choice.finish_reason for choice in answer.choices], answer.usage.completion_tokens


def chats(running, parallel):
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(lambda i: chat(running, i), range(12)))


def refusal(*arguments):
    done = subprocess.run([str(common.binary), "serve", "--port", "0", *arguments], capture_output=True, timeout=60)
    return done.returncode, done.stderr.decode(errors="replace")


class Speculation(unittest.TestCase):
    LOADS = [
        ("--speculate", "draft", "--draft-tokens", "4"),
        ("--speculate", "draft"),
        ("--speculate", "ngram", "--draft-tokens", "6", "--steps-in-flight", "2"),
        ("--speculate", "suffix", "--draft-tokens", "3"),
        ("--speculate", "auto", "--chunk", "5", "--rows", "32"),
        ("--speculate", "draft", "--draft-tokens", "3", "--context", "256", "--kv-gib", "0.0035"),  # preemption
    ]

    def test_the_same_answers_at_any_load(self):
        alone = common.server("--no-prefix-cache", "--threads", "1")
        want, n = test_determinism.answers_alone(), test_determinism.N
        want_chats = chats(alone, 1)
        for load in self.LOADS[:: 2 if common.sanitizer() == "thread" else 1]:
            running = common.server(*load)
            with concurrent.futures.ThreadPoolExecutor(n) as pool:
                got = list(pool.map(lambda i: test_determinism.answer(running, i), range(n)))
            for i in range(n):
                self.assertEqual(got[i], want[i], f"{load}, request {i}")
            for i, (got_chat, want_chat) in enumerate(zip(chats(running, 6), want_chats)):
                self.assertEqual(got_chat, want_chat, f"{load}, chat {i}")
            self.check_metrics(running, "--draft-tokens" in load)

    def check_metrics(self, running, guesses):
        prefix = "vllm:spec_decode_num_"
        n_drafts, n_tokens, n_accepted = (common.metric(running, f"{prefix}{name}_total") for name in ("drafts", "draft_tokens", "accepted_tokens"))
        by_position = [common.metric(running, f"{prefix}accepted_tokens_per_pos_total", f'position="{i}"') for i in range(15)]
        self.assertEqual(sum(by_position), n_accepted)
        self.assertEqual(by_position, sorted(by_position, reverse=True))
        self.assertLessEqual(by_position[0], n_drafts)
        self.assertLessEqual(n_accepted, n_tokens)
        self.assertGreater(common.metric(running, "optima_speculation_gain"), 0)
        if guesses:
            self.assertGreater(n_accepted, 0)

    def test_what_cannot_draft_is_refused(self):
        stories = common.SHARED / "data" / "models" / "stories260K" / "hf"
        rows = [(("--speculate", "guess"), '"guess" is none of off, auto, ngram, suffix, draft, draft:PATH'), (("--speculate", "draft:/nowhere"), "/nowhere"),
                (("--speculate", "draft", "--draft-tokens", "16"), "16 is not within 1 and 15")]
        if stories.exists():
            rows += [((str(stories), "--speculate", "draft"), 'no folder "draft"'), (("--speculate", f"draft:{stories}"), "it has 512 tokens, the model 4096")]
        for arguments, text in rows:
            code, err = refusal(*arguments)
            self.assertIn(code, (1, 2), err)
            self.assertIn(text, err)
            self.assertEqual(err.count("\n"), 1, err)


if __name__ == "__main__":
    unittest.main()
