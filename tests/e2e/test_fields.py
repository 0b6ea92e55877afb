"""A vector of bad values in every request field gets 200 or 400, and a 400 names the field."""

import concurrent.futures
import json
import unittest

import common
import models

# Raw JSON, because Python would not write some of them.
VALUES = ["null", "true", '""', '"x"', "[]", "{}", "-1", "0", "-0.0", "1", "1e308", "1e9999", "2147483647", "2147483648", "4294967296",
          "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "0.5", "1e-400"]  # fmt: skip

EXTENSIONS = ["ignore_eos", "min_tokens", "top_k", "min_p", "repetition_penalty", "stop_token_ids", "include_stop_str_in_output",
              "skip_special_tokens", "add_generation_prompt", "continue_final_message", "chat_template_kwargs", "cache_salt", "prompt_logprobs",
              "add_special_tokens", "chat_template", "return_token_ids", "guided_json", "structured_outputs", "echo", "best_of"]  # fmt: skip

CHAT = ["messages", "model", "temperature", "top_p", "n", "stop", "max_tokens", "max_completion_tokens", "stream", "stream_options", "logprobs",
        "top_logprobs", "logit_bias", "seed", "presence_penalty", "frequency_penalty", "response_format", "tools", "tool_choice", "user"]  # fmt: skip
COMPLETIONS = ["prompt", "model", "temperature", "top_p", "n", "stop", "max_tokens", "stream", "stream_options", "logprobs", "suffix",
               "logit_bias", "seed", "presence_penalty", "frequency_penalty", "user"]  # fmt: skip


def fields(schema_name, known):
    """What the published interface lists, where it is at hand, and what this server knows besides."""
    path = common.SHARED / "suites" / "openapi" / "openai-inference.openapi.json"
    names = set(known) | set(EXTENSIONS)
    if path.is_file():
        schemas = json.loads(path.read_text())["components"]["schemas"]

        def collect(schema):
            if "$ref" in schema:
                collect(schemas[schema["$ref"].rsplit("/", 1)[1]])
            names.update(schema.get("properties", {}))
            for part in schema.get("allOf", []):
                collect(part)

        collect(schemas[schema_name])
    return sorted(names)


class Fields(unittest.TestCase):
    def check(self, path, base, names):
        running = models.small_server()

        def ask(name, value):
            members = {key: json.dumps(entry) for key, entry in base.items()}
            members[name] = value
            body = "{" + ",".join(f'"{key}":{entry}' for key, entry in members.items()) + "}"
            status, headers, answer = common.post(running, path, body.encode())
            return name, value, status, headers, answer

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for name, value, status, headers, answer in pool.map(lambda pair: ask(*pair), [(n, v) for n in names for v in VALUES]):
                label = f"{name}={value}: {status} {answer[:300]}"
                if name == "model" and status == 404:
                    continue
                self.assertIn(status, (200, 400), label)
                if status == 400:
                    error = models.error_of((status, headers, answer))
                    related = (name, "messages", "prompt") if "max" in name or "min_tokens" in name else (name,)
                    self.assertIn((error["param"] or "").split("[")[0], related, label)
        self.assertEqual(common.get(running, "/health")[0], 200)
        self.assertTrue(common.eventually(lambda: common.metric(running, "vllm:num_requests_running") == 0))

    def test_chat(self):
        base = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
        self.check("/v1/chat/completions", base, fields("CreateChatCompletionRequest", CHAT))

    def test_completions(self):
        self.check("/v1/completions", {"prompt": "x", "max_tokens": 1}, fields("CreateCompletionRequest", COMPLETIONS))
