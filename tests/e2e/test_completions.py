"""POST /v1/completions: known texts, echo and log probabilities as evaluators use them, batches, sampling."""

import json
import math
import unittest

import common
import models


def complete(running, **body):
    status, _, answer = common.post(running, "/v1/completions", body)
    assert status == 200, answer
    return json.loads(answer)


class KnownText(unittest.TestCase):
    def setUp(self):
        self.server = models.stories_server()

    def test_greedy_text_is_the_reference(self):
        for case in models.expected_greedy():
            n = len(case["ids"]) - len(case["prompt_ids"])
            answer = complete(self.server, prompt=case["prompt"], max_tokens=n, temperature=0)
            self.assertEqual(case["prompt"] + answer["choices"][0]["text"], case["text"])
            self.assertEqual(answer["usage"]["prompt_tokens"], len(case["prompt_ids"]))
            from_ids = complete(self.server, prompt=case["prompt_ids"], max_tokens=n, temperature=0)
            self.assertEqual(from_ids["choices"][0]["text"], answer["choices"][0]["text"])

    def test_text_is_the_same_at_any_load(self):
        cases = models.expected_greedy()
        prompts = [case["prompt"] for case in cases] * 4
        answer = complete(self.server, prompt=prompts, max_tokens=40, temperature=0, n=2)
        self.assertEqual([choice["index"] for choice in answer["choices"]], list(range(2 * len(prompts))))
        for choice in answer["choices"]:
            case = cases[choice["index"] // 2 % len(cases)]
            self.assertTrue(case["text"].startswith(case["prompt"] + choice["text"]), choice)


class Completions(unittest.TestCase):
    def setUp(self):
        self.server = models.small_server()

    def test_shape(self):
        answer = complete(self.server, prompt="Once", max_tokens=3)
        self.assertEqual(answer["object"], "text_completion")
        self.assertTrue(answer["id"].startswith("cmpl-"))
        usage = answer["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertIsNone(answer["choices"][0]["logprobs"])
        self.assertIn(answer["choices"][0]["finish_reason"], ("stop", "length"))

    def test_sixteen_tokens_unless_told(self):
        answer = complete(self.server, prompt="Once upon a time", ignore_eos=True)
        self.assertEqual(answer["usage"]["completion_tokens"], 16)
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")

    def test_scoring_as_evaluators_do_it(self):
        first = complete(self.server, prompt="Once upon a time", max_tokens=1, logprobs=1, echo=True, temperature=0)
        n_prompt = first["usage"]["prompt_tokens"]
        logprobs = first["choices"][0]["logprobs"]
        self.assertEqual({len(logprobs[key]) for key in logprobs}, {n_prompt + 1})
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertIsNone(logprobs["top_logprobs"][0])
        self.assertEqual(logprobs["text_offset"][0], 0)
        self.assertEqual(logprobs["text_offset"], sorted(logprobs["text_offset"]))
        for own, top in zip(logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:]):
            self.assertLessEqual(own, 0)
            self.assertLessEqual(own, max(top.values()))
            self.assertIn(len(top), (1, 2))
        # The same, without a generated token and in a stream.
        scored = complete(self.server, prompt="Once upon a time", max_tokens=0, logprobs=1, echo=True)
        self.assertEqual(scored["choices"][0]["text"], "Once upon a time")
        self.assertEqual(scored["choices"][0]["finish_reason"], "length")
        self.assertEqual(scored["choices"][0]["logprobs"]["token_logprobs"], logprobs["token_logprobs"][:-1])
        body = {"prompt": "Once upon a time", "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0, "stream": True}
        streamed = models.chunks(common.post(self.server, "/v1/completions", body)[2])
        joined = [entry for chunk in streamed for entry in chunk["choices"][0]["logprobs"]["token_logprobs"]]
        self.assertEqual(joined, logprobs["token_logprobs"])

    def test_offsets_find_the_tokens(self):
        answer = complete(self.server, prompt="Once upon a time", max_tokens=8, logprobs=0, echo=True, temperature=0, ignore_eos=True)
        choice = answer["choices"][0]
        tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
        for token, begin, end in zip(tokens, offsets, offsets[1:] + [len(choice["text"])]):
            if not token.startswith("bytes:") and begin != end:
                self.assertIn(choice["text"][begin:end], (token, token.lstrip()))
        self.assertEqual({len(top) for top in choice["logprobs"]["top_logprobs"][1:]}, {1})

    def test_prompt_logprobs(self):
        answer = complete(self.server, prompt="Once upon a time", max_tokens=1, prompt_logprobs=2)
        entries = answer["choices"][0]["prompt_logprobs"]
        self.assertEqual(len(entries), answer["usage"]["prompt_tokens"])
        self.assertIsNone(entries[0])
        for entry in entries[1:]:
            self.assertIn(len(entry), (2, 3))
            ranks = sorted(alternative["rank"] for alternative in entry.values())
            self.assertEqual(ranks[:2], [1, 2])
            for alternative in entry.values():
                self.assertLessEqual(alternative["logprob"], 0)

    def test_stream_is_the_same_text(self):
        body = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0, "logprobs": 2}
        whole = complete(self.server, **body)["choices"][0]
        streamed = models.chunks(common.post(self.server, "/v1/completions", {**body, "stream": True})[2])
        self.assertEqual("".join(chunk["choices"][0]["text"] for chunk in streamed), whole["text"])
        tokens = [token for chunk in streamed if chunk["choices"][0]["logprobs"] for token in chunk["choices"][0]["logprobs"]["tokens"]]
        self.assertEqual(tokens, whole["logprobs"]["tokens"])
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in streamed]
        self.assertEqual(reasons[:-1], [None] * (len(reasons) - 1))
        self.assertEqual(reasons[-1], whole["finish_reason"])

    def test_stop_strings_cut_across_tokens(self):
        text = complete(self.server, prompt="Once upon a time", max_tokens=40, temperature=0, ignore_eos=True)["choices"][0]["text"]
        for begin, end in ((3, 6), (10, 11), (5, 20)):
            stop = text[begin:end]
            expected = text[: text.index(stop)]
            for stream in (False, True):
                body = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0, "ignore_eos": True, "stop": [stop, "\x7f"], "stream": stream}
                answer = common.post(self.server, "/v1/completions", body)[2]
                choices = [chunk["choices"][0] for chunk in models.chunks(answer)] if stream else json.loads(answer)["choices"]
                self.assertEqual("".join(choice["text"] for choice in choices), expected)
                self.assertEqual(choices[-1]["finish_reason"], "stop")
            kept = complete(self.server, prompt="Once upon a time", max_tokens=40, temperature=0, ignore_eos=True, stop=stop, include_stop_str_in_output=True)
            self.assertEqual(kept["choices"][0]["text"], expected + stop)

    def test_stop_tokens(self):
        plain = complete(self.server, prompt="Once upon a time", max_tokens=6, temperature=0, prompt_logprobs=0, logprobs=0)
        echoed = complete(self.server, prompt="Once upon a time" + plain["choices"][0]["text"], max_tokens=0, echo=True, prompt_logprobs=0)
        last = int(next(iter(echoed["choices"][0]["prompt_logprobs"][-1])))
        stopped = complete(self.server, prompt="Once upon a time", max_tokens=40, temperature=0, stop_token_ids=[last])
        self.assertEqual(stopped["choices"][0]["finish_reason"], "stop")
        self.assertTrue(plain["choices"][0]["text"].startswith(stopped["choices"][0]["text"]))

    def test_seeds_are_exact(self):
        def text(seed):
            return complete(self.server, prompt="Once", max_tokens=40, seed=seed, temperature=1.5)["choices"][0]["text"]

        for seed in (0, -1, 2**53, 2**63 - 1, -(2**63)):
            self.assertEqual(text(seed), text(seed))
        self.assertNotEqual(text(2**53), text(2**53 + 1))
        self.assertNotEqual(text(2**63 - 1), text(2**63 - 2))

    def test_choices_differ_and_repeat(self):
        body = {"prompt": "Once", "max_tokens": 30, "seed": 7, "temperature": 1.5, "n": 4}
        texts = [choice["text"] for choice in complete(self.server, **body)["choices"]]
        self.assertEqual(len(set(texts)), 4)
        self.assertEqual(texts, [choice["text"] for choice in complete(self.server, **body)["choices"]])

    def test_logit_bias(self):
        forced = complete(self.server, prompt="Once", max_tokens=5, temperature=1, logit_bias={"300": 100}, logprobs=0)
        self.assertEqual(len(set(forced["choices"][0]["logprobs"]["tokens"])), 1)
        self.assertTrue(all(math.isfinite(value) for value in forced["choices"][0]["logprobs"]["token_logprobs"]))
        banned = complete(self.server, prompt="Once", max_tokens=5, temperature=0, logit_bias={"300": -100}, logprobs=0)
        self.assertNotIn(forced["choices"][0]["logprobs"]["tokens"][0], banned["choices"][0]["logprobs"]["tokens"])

    def test_prefixes_are_cached_within_a_salt(self):
        prompt = "A long beginning that is worth keeping, because it comes again and again and again. " * 2
        complete(self.server, prompt=prompt, max_tokens=1, cache_salt="one")
        again = complete(self.server, prompt=prompt, max_tokens=1, cache_salt="one")
        other = complete(self.server, prompt=prompt, max_tokens=1, cache_salt="two")
        cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertGreater(cached, 0)
        self.assertLess(cached, again["usage"]["prompt_tokens"])
        self.assertEqual(other["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual(again["choices"][0]["text"] is None, False)

    def test_beginning_of_a_text(self):
        for prompt in ("", None):
            self.assertGreaterEqual(complete(self.server, prompt=prompt, max_tokens=2)["usage"]["prompt_tokens"], 1)

    def test_usage_in_streams(self):
        body = {"prompt": "Once", "max_tokens": 5, "ignore_eos": True, "stream": True}
        plain = models.chunks(common.post(self.server, "/v1/completions", body)[2])
        self.assertTrue(all("usage" not in chunk for chunk in plain))
        body["stream_options"] = {"include_usage": True}
        last = models.chunks(common.post(self.server, "/v1/completions", body)[2])[-1]
        self.assertEqual(last["choices"], [])
        self.assertEqual(last["usage"]["completion_tokens"], 5)
        body["stream_options"] = {"continuous_usage_stats": True}
        for chunk in models.chunks(common.post(self.server, "/v1/completions", body)[2]):
            self.assertGreaterEqual(chunk["usage"]["completion_tokens"], 1)

    def test_client(self):
        client = common.client(self.server)
        answer = client.completions.create(model=client.models.list().data[0].id, prompt=["Once", "Twice"], max_tokens=4)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
