"""What a bad request gets: one error shape, the right status, the field's name. The server lives on."""

import json
import pathlib
import unittest

import common
import models

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "x"}]

# path, body, status, code, param
CASES = [
    (CHAT, {}, 400, "missing_required_parameter", "messages"),
    (CHAT, {"messages": None}, 400, "missing_required_parameter", "messages"),
    (CHAT, {"messages": []}, 400, "empty_array", "messages"),
    (CHAT, {"messages": "x"}, 400, "invalid_type", "messages"),
    (CHAT, {"messages": ["x"]}, 400, "invalid_type", "messages[0]"),
    (CHAT, {"messages": [{"content": "x"}]}, 400, "missing_required_parameter", "messages[0].role"),
    (CHAT, {"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
    (CHAT, {"messages": [{"role": "user"}]}, 400, "missing_required_parameter", "messages[0].content"),
    (CHAT, {"messages": [*USER, {"role": "user", "content": None}]}, 400, "invalid_type", "messages[1].content"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, 400, "invalid_type", "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]}, 400, "unsupported_value", "messages[0].content[0]"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]}, 400, "invalid_type", "messages[0].content[0]"),
    (CHAT, {"messages": USER, "model": "no-such-model"}, 404, "model_not_found", "model"),
    (CHAT, {"messages": USER, "model": "../../etc/passwd"}, 404, "model_not_found", "model"),
    (CHAT, {"messages": USER, "n": 129}, 400, "integer_above_max_value", "n"),
    (CHAT, {"messages": USER, "n": 2**63}, 400, "integer_above_max_value", "n"),
    (CHAT, {"messages": USER, "temperature": 3}, 400, "decimal_above_max_value", "temperature"),
    (CHAT, {"messages": USER, "temperature": "hot"}, 400, "invalid_type", "temperature"),
    (CHAT, {"messages": USER, "max_tokens": 0}, 400, "integer_below_min_value", "max_tokens"),
    (CHAT, {"messages": USER, "max_tokens": 2**31 - 1}, 400, "context_length_exceeded", "messages"),
    (CHAT, {"messages": USER, "top_logprobs": 2}, 400, "invalid_value", "top_logprobs"),
    (CHAT, {"messages": USER, "stream_options": {"include_usage": True}}, 400, "invalid_value", "stream_options"),
    (CHAT, {"messages": USER, "tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "unsupported_parameter", "tools"),
    (CHAT, {"messages": USER, "response_format": {"type": "json_object"}}, 400, "unsupported_value", "response_format"),
    (CHAT, {"messages": USER, "audio": {"voice": "x"}}, 400, "unsupported_parameter", "audio"),
    (CHAT, {"messages": USER, "chat_template": "{{ 1 }}"}, 400, "unsupported_parameter", "chat_template"),
    (CHAT, {"messages": USER, "chat_template_kwargs": {"tokenize": True}}, 400, "invalid_value", "chat_template_kwargs"),
    (CHAT, {"messages": USER, "add_generation_prompt": True, "continue_final_message": True}, 400, "invalid_value", "continue_final_message"),
    (COMPLETIONS, {}, 400, "missing_required_parameter", "prompt"),
    (COMPLETIONS, {"prompt": []}, 400, "empty_array", "prompt"),
    (COMPLETIONS, {"prompt": [[]]}, 400, "empty_array", "prompt"),
    (COMPLETIONS, {"prompt": [[], [1]]}, 400, "empty_array", "prompt"),
    (COMPLETIONS, {"prompt": ["x", [1]], "max_tokens": 0}, 200, None, None),
    (COMPLETIONS, {"prompt": [1, "x"]}, 400, "invalid_type", "prompt"),
    (COMPLETIONS, {"prompt": [-1]}, 400, "invalid_value", "prompt"),
    (COMPLETIONS, {"prompt": [10**9]}, 400, "invalid_value", "prompt"),
    (COMPLETIONS, {"prompt": [0.5]}, 400, "invalid_type", "prompt"),
    (COMPLETIONS, {"prompt": ["x"] * 2049}, 400, "array_above_max_length", "prompt"),
    (COMPLETIONS, {"prompt": "word " * 100000}, 400, "context_length_exceeded", "prompt"),
    (COMPLETIONS, {"prompt": [1] * 100000}, 400, "context_length_exceeded", "prompt"),
    (COMPLETIONS, {"prompt": "x", "suffix": "y"}, 400, "unsupported_parameter", "suffix"),
    (COMPLETIONS, {"prompt": "x", "best_of": 2**63}, 400, "unsupported_value", "best_of"),
    (COMPLETIONS, {"prompt": "x", "stop": [""]}, 400, "invalid_value", "stop"),
    (COMPLETIONS, {"prompt": "x", "stop": ["y"] * 100000}, 400, "array_above_max_length", "stop"),
    (COMPLETIONS, {"prompt": "x", "logit_bias": {str(i): 0 for i in range(2000)}}, 400, "invalid_value", "logit_bias"),
    (COMPLETIONS, {"prompt": "x", "min_tokens": 5, "max_tokens": 4}, 400, "invalid_value", "min_tokens"),
    (COMPLETIONS, {"prompt": "x", "prompt_embeds": "AAAA"}, 400, "unsupported_parameter", "prompt_embeds"),
    (COMPLETIONS, {"prompt": "x", "guided_regex": "(a+)+"}, 400, "unsupported_parameter", "guided_regex"),
]  # fmt: skip


class Errors(unittest.TestCase):
    def setUp(self):
        self.server = models.small_server()

    def tearDown(self):
        self.assertEqual(common.get(self.server, "/health")[0], 200)

    def test_table(self):
        for path, body, status, code, param in CASES:
            with self.subTest(body=str(body)[:120]):
                answer = common.post(self.server, path, body)
                self.assertEqual(answer[0], status, answer[2])
                if status != 200:
                    error = models.error_of(answer)
                    self.assertEqual((error["code"], error["param"]), (code, param), error)
                    self.assertEqual(error["type"], "invalid_request_error")

    def test_context_message_is_what_clients_look_for(self):
        error = models.error_of(common.post(self.server, CHAT, {"messages": USER, "max_tokens": 10**8}))
        self.assertIn("maximum context length is", error["message"])

    def test_bodies_that_are_not_json(self):
        for body in (b"", b"x", b"[]", b"null", b'"x"', b"{", b'{"a":1}x', b"\xef\xbb\xbf{}", b'{"prompt":"\\u0000"}',
                     b'{"prompt":"x","prompt":"y"}', b'{"prompt":"\xff"}', b"[" * 100000, b'{"a":' * 100000):  # fmt: skip
            error = models.error_of(common.post(self.server, COMPLETIONS, body))
            self.assertEqual(error["code"], "invalid_json")
            self.assertTrue(error["message"].startswith("We could not parse the JSON body of your request"), error)

    def test_every_document_of_the_suite_is_refused(self):
        folder = common.SHARED / "suites" / "json" / "JSONTestSuite"
        documents = sorted(folder.rglob("*.json"))
        if not documents:
            self.skipTest("shared/suites/json is not here")
        for path in documents:
            for endpoint in (CHAT, COMPLETIONS):
                answer = common.post(self.server, endpoint, pathlib.Path(path).read_bytes())
                self.assertEqual(answer[0], 400, path.name)
                models.error_of(answer)

    def test_errors_never_quote_the_client(self):
        canary = "canary7041"
        for body in ({"messages": canary}, {canary: 1}, {"messages": USER, "model": canary}, {"messages": [{"role": canary, "content": ""}]},
                     {"messages": USER, "stop": [[canary]]}, {"messages": USER, "logit_bias": {canary: 1}}):  # fmt: skip
            self.assertNotIn(canary, common.post(self.server, CHAT, body)[2].decode())

    def test_paths_and_methods(self):
        for method, path, status in (("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("POST", "/v1/models", 405), ("DELETE", "/health", 405)):
            answer = common.request(self.server, method, path, b"{}" if method == "POST" else None)
            self.assertEqual(answer[0], status, path)
            models.error_of(answer)
        self.assertEqual(common.post(self.server, CHAT, b"{}", headers={"Content-Type": "text/plain"})[0], 415)

    def test_models(self):
        status, _, body = common.get(self.server, "/v1/models")
        model = json.loads(body)["data"][0]
        self.assertEqual((status, model["object"]), (200, "model"))
        self.assertGreater(model["max_model_len"], 0)
        self.assertEqual(json.loads(common.get(self.server, "/v1/models/" + model["id"])[2])["id"], model["id"])
        for name in ("other", "../../etc/passwd", "%2e%2e%2fetc", model["id"] + "/x"):
            self.assertIn(common.get(self.server, "/v1/models/" + name)[0], (400, 404), name)
        error = models.error_of(common.get(self.server, "/v1/models/other"))
        self.assertEqual(error["code"], "model_not_found")
        self.assertEqual(common.request(self.server, "HEAD", "/v1/models")[0], 200)
        self.assertIn("version", json.loads(common.get(self.server, "/version")[2]))


class Options(unittest.TestCase):
    def test_names_with_slashes(self):
        running = models.small_server("--name", "org/name")
        client = common.client(running)
        self.assertEqual(client.models.retrieve("org/name").id, "org/name")
        self.assertEqual(common.get(running, "/v1/models/org/name")[0], 200)
        self.assertEqual(client.completions.create(model="org/name", prompt="x", max_tokens=1).model, "org/name")

    def test_any_model(self):
        running = models.small_server("--any-model")
        self.assertEqual(common.post(running, COMPLETIONS, {"prompt": "x", "max_tokens": 1, "model": "gpt-4o"})[0], 200)

    def test_strict(self):
        running = models.small_server("--strict")
        error = models.error_of(common.post(running, COMPLETIONS, {"prompt": "x", "chat_id": 1}))
        self.assertEqual((error["code"], error["param"]), ("unknown_parameter", "chat_id"))
        self.assertEqual(common.post(running, COMPLETIONS, {"prompt": "x", "max_tokens": 1, "user": "u"})[0], 200)
