"""POST /v1/chat/completions through the official client: answers, streams, stops, choices, log probabilities."""

import json
import unittest

import common
import models

QUESTION = [{"role": "user", "content": "Tell me about a cat."}]


class Chat(unittest.TestCase):
    def setUp(self):
        self.server = models.small_server()
        self.client = common.client(self.server)
        self.model = self.client.models.list().data[0].id

    def create(self, **options):
        extra = {key: options.pop(key) for key in ("ignore_eos", "min_tokens", "continue_final_message", "add_generation_prompt") if key in options}
        options.setdefault("messages", QUESTION)
        return self.client.chat.completions.create(model=self.model, extra_body=extra, **options)

    def test_answer(self):
        answer = self.create(max_tokens=10)
        self.assertEqual(answer.object, "chat.completion")
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertEqual(answer.model, self.model)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertLess(answer.usage.prompt_tokens_details.cached_tokens, answer.usage.prompt_tokens)
        self.assertTrue(answer._request_id)

    def test_stream_is_the_same_text(self):
        for n in (1, 3):
            options = {"max_tokens": 30, "temperature": 1, "seed": 5, "n": n}
            whole = self.create(**options)
            texts, reasons, roles, heads = [""] * n, [[] for _ in range(n)], [0] * n, set()
            for chunk in self.create(stream=True, **options):
                heads.add((chunk.id, chunk.created, chunk.model, chunk.object))
                self.assertEqual(len(chunk.choices), 1)
                choice = chunk.choices[0]
                roles[choice.index] += choice.delta.role is not None
                texts[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    reasons[choice.index].append(choice.finish_reason)
            self.assertEqual(len(heads), 1)
            self.assertEqual(roles, [1] * n)
            self.assertEqual(texts, [choice.message.content for choice in whole.choices])
            self.assertEqual(reasons, [[choice.finish_reason] for choice in whole.choices])

    def test_chunks_on_the_wire(self):
        body = {"messages": QUESTION, "max_tokens": 10, "stream": True, "ignore_eos": True}
        status, headers, answer = common.post(self.server, "/v1/chat/completions", body)
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "text/event-stream; charset=utf-8")
        self.assertEqual(headers["Cache-Control"], "no-cache")
        self.assertIsNone(headers["Content-Encoding"])
        chunks = models.chunks(answer)
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": "", "refusal": None})
        self.assertEqual(chunks[-1]["choices"][0]["delta"], {})
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "length")
        for chunk in chunks[1:-1]:
            self.assertEqual(list(chunk["choices"][0]["delta"]), ["content"])
            self.assertTrue(chunk["choices"][0]["delta"]["content"])
        for chunk in chunks:
            self.assertNotIn("error", chunk)
            self.assertNotIn("usage", chunk)

    def test_chunks_look_like_the_recorded_ones(self):
        folder = common.SHARED / "suites" / "sse" / "openai-python" / ".inline-snapshot" / "external"
        recordings = [path.read_text() for path in folder.glob("*.bin")]
        if not recordings:
            self.skipTest("shared/suites/sse is not here")

        def shape(value):
            if isinstance(value, dict):
                return {key: shape(entry) for key, entry in value.items()}
            return [shape(entry) for entry in value[:1]] if isinstance(value, list) else None

        def kinds(chunks):
            """The shape of each situation, members in order, as text."""
            found = {}
            for chunk in chunks:
                if not chunk["choices"]:
                    chunk["usage"] = None
                    found["usage"] = json.dumps(shape(chunk))
                    continue
                choice = chunk["choices"][0]
                logprobs = choice["logprobs"]
                if logprobs and not logprobs["content"] and choice["delta"].get("content") != "":
                    continue
                kind = "end" if choice["finish_reason"] else "begin" if "role" in choice["delta"] else "text"
                if "content" in choice["delta"] and choice["delta"]["content"] is not None or kind == "end":
                    found[kind, bool(logprobs)] = json.dumps(shape(chunk))
            return found

        expected = {}
        for recording in recordings:
            if "tool_calls" not in recording and '"refusal":"' not in recording:
                expected.update(kinds(models.chunks(recording.rstrip("\n") + "\n\n")))
        self.assertGreaterEqual(len(expected), 6)
        for extra in ({}, {"logprobs": True}):
            body = {"messages": QUESTION, "max_tokens": 8, "stream": True, "ignore_eos": True, "stream_options": {"include_usage": True}, **extra}
            for kind, found in kinds(models.chunks(common.post(self.server, "/v1/chat/completions", body)[2])).items():
                self.assertEqual(found, expected[kind], kind)

    def test_usage_comes_last_and_only_when_asked(self):
        chunks = list(self.create(max_tokens=5, stream=True, stream_options={"include_usage": True}, ignore_eos=True))
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, 5)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))

    def test_stop(self):
        text = self.create(max_tokens=40, temperature=0, ignore_eos=True).choices[0].message.content
        stop = text[7:10]
        stopped = self.create(max_tokens=40, temperature=0, ignore_eos=True, stop=[stop]).choices[0]
        self.assertEqual(stopped.message.content, text[: text.index(stop)])
        self.assertEqual(stopped.finish_reason, "stop")
        streamed = self.create(max_tokens=40, temperature=0, ignore_eos=True, stop=[stop], stream=True)
        self.assertEqual("".join(chunk.choices[0].delta.content or "" for chunk in streamed), stopped.message.content)

    def test_logprobs_spell_the_text(self):
        for temperature in (0, 1.5):
            answer = self.create(max_tokens=30, temperature=temperature, logprobs=True, top_logprobs=3, seed=11)
            choice = answer.choices[0]
            spelled = b"".join(bytes(token.bytes) for token in choice.logprobs.content)
            self.assertEqual(spelled.decode(errors="replace"), choice.message.content)
            for token in choice.logprobs.content:
                self.assertLessEqual(token.logprob, 0)
                values = [alternative.logprob for alternative in token.top_logprobs]
                self.assertEqual(values, sorted(values, reverse=True))
                self.assertEqual(len(values), 3)
            streamed = self.create(max_tokens=30, temperature=temperature, logprobs=True, top_logprobs=3, seed=11, stream=True)
            tokens = [token for chunk in streamed if chunk.choices[0].logprobs for token in chunk.choices[0].logprobs.content]
            self.assertEqual(tokens, choice.logprobs.content)

    def test_parts_are_one_text(self):
        parts = [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "about a cat.", "cache_control": {"type": "x"}}]
        joined = self.create(max_tokens=20, temperature=0, messages=[{"role": "user", "content": parts}])
        plain = self.create(max_tokens=20, temperature=0)
        self.assertEqual(joined.choices[0].message.content, plain.choices[0].message.content)
        self.assertEqual(joined.usage.prompt_tokens, plain.usage.prompt_tokens)

    def test_history_comes_back_as_it_was_sent(self):
        answer = self.create(max_tokens=5).choices[0].message.model_dump()
        messages = [*QUESTION, answer, {"role": "user", "content": "And a dog?"}]
        self.assertTrue(self.create(max_tokens=5, messages=messages).choices)
        empty = {"role": "assistant", "content": None, "tool_calls": None, "refusal": None}
        self.assertTrue(self.create(max_tokens=5, messages=[*QUESTION, empty, *QUESTION]).choices)

    def test_a_message_is_continued_when_asked(self):
        messages = [*QUESTION, {"role": "assistant", "content": "The cat "}]
        new_turn = self.create(max_tokens=1, messages=messages)
        continued = self.create(max_tokens=1, messages=messages, continue_final_message=True)
        self.assertLess(continued.usage.prompt_tokens, new_turn.usage.prompt_tokens)

    def test_markers_in_messages_are_text(self):
        def count(content):
            return self.create(max_tokens=1, messages=[{"role": "user", "content": content}]).usage.prompt_tokens

        for marker in ("<s>", "</s>", "<unk>", "<|im_end|>", "<|im_start|>", "<|endoftext|>"):
            self.assertGreater(count("a" + marker * 8 + "a"), count("aa") + 8, marker)

    def test_nulls_are_defaults(self):
        names = ("temperature", "top_p", "n", "stop", "max_tokens", "seed", "logprobs", "top_logprobs", "logit_bias", "user", "tools",
                 "tool_choice", "response_format", "stream_options", "presence_penalty", "frequency_penalty", "stream")  # fmt: skip
        body = {"messages": QUESTION, "max_completion_tokens": 3, **{name: None for name in names}}
        self.assertEqual(common.post(self.server, "/v1/chat/completions", body)[0], 200)

    def test_what_clients_send_besides_is_named(self):
        body = {"messages": QUESTION, "max_tokens": 1, "chat_id": "x", "cache_prompt": True, "user": "me"}
        status, headers, _ = common.post(self.server, "/v1/chat/completions", body)
        self.assertEqual(status, 200)
        self.assertEqual(headers["x-optima-ignored"], "chat_id, cache_prompt")

    def test_paths_without_version(self):
        body = {"messages": QUESTION, "max_tokens": 1}
        self.assertEqual(common.post(self.server, "/chat/completions", body)[0], 200)
        self.assertEqual(common.post(self.server, "/v1/chat/completions/?api-version=1", body)[0], 200)
