"""Answers fit the published interface: every object has what the schema requires, of the right type."""

import json
import unittest

import common
import models


def misfits(value, schema, schemas, where="$"):
    """What is wrong with a value; the part of JSON Schema that the interface uses for answers."""
    if "$ref" in schema:
        return misfits(value, schemas[schema["$ref"].rsplit("/", 1)[1]], schemas, where)
    if value is None and (schema.get("nullable") or "null" in schema.get("type", ())):
        return []
    found = []
    for part in schema.get("allOf", []):
        found += misfits(value, part, schemas, where)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            tries = [misfits(value, part, schemas, where) for part in schema[word]]
            found += min(tries, key=len) if all(tries) else []
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    wanted = schema.get("type")
    wanted = [wanted] if isinstance(wanted, str) else wanted or []
    if wanted and not any(isinstance(value, kinds[kind]) and not (kind in ("integer", "number") and isinstance(value, bool)) for kind in wanted):
        return [*found, f"{where}: {value!r} is not {wanted}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is not one of {schema['enum']}")
    if isinstance(value, dict):
        found += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, part in schema.get("properties", {}).items():
            if name in value:
                found += misfits(value[name], part, schemas, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for i, entry in enumerate(value):
            found += misfits(entry, schema["items"], schemas, f"{where}[{i}]")
    return found


class Shapes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        path = common.SHARED / "suites" / "openapi" / "openai-inference.openapi.json"
        if not path.is_file():
            raise unittest.SkipTest("shared/suites/openapi is not here")
        cls.schemas = json.loads(path.read_text())["components"]["schemas"]

    def check(self, value, name):
        self.assertEqual(misfits(value, self.schemas[name], self.schemas), [], name)

    def test_chat(self):
        running = models.small_server()
        body = {"messages": [{"role": "user", "content": "Tell me about a cat."}], "max_tokens": 8, "ignore_eos": True, "n": 2}
        for extra in ({}, {"logprobs": True, "top_logprobs": 2}, {"stop": "e"}):
            answer = json.loads(common.post(running, "/v1/chat/completions", {**body, **extra})[2])
            self.check(answer, "CreateChatCompletionResponse")
            options = {"stream": True, "stream_options": {"include_usage": True}}
            for chunk in models.chunks(common.post(running, "/v1/chat/completions", {**body, **extra, **options})[2]):
                self.check(chunk, "CreateChatCompletionStreamResponse")

    def test_completions(self):
        running = models.small_server()
        body = {"prompt": ["Once", "Twice"], "max_tokens": 8, "ignore_eos": True}
        for extra in ({}, {"stop": "e"}, {"logprobs": 2}):
            self.check(json.loads(common.post(running, "/v1/completions", {**body, **extra})[2]), "CreateCompletionResponse")

    def test_models_and_errors(self):
        running = models.small_server()
        listed = json.loads(common.get(running, "/v1/models")[2])
        self.check(listed, "ListModelsResponse")
        self.check(json.loads(common.get(running, "/v1/models/" + listed["data"][0]["id"])[2]), "Model")
        self.check(json.loads(common.post(running, "/v1/completions", {})[2]), "ErrorResponse")
