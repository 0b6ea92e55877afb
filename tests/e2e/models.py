"""Which models the API's tests are served by."""

import atexit
import json
import pathlib
import shutil
import tempfile
import unittest

import common

STORIES = common.SHARED / "data" / "models" / "stories260K" / "hf"

TEMPLATE = """{%- for message in messages -%}
{{ '<' + message['role'] + '>' + message['content'] + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<assistant>' }}{%- endif -%}"""

_made = []


def with_template(source):
    """A copy of a model folder that has a plain chat template."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="optima-model-")) / "stories"
    shutil.copytree(source, folder)
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    atexit.register(shutil.rmtree, folder.parent, True)
    return folder


def small_server(*arguments):
    """A server of the smallest model at hand that can chat: stories260K, or the embedded demo."""
    if not STORIES.is_dir():
        return common.server(*arguments)
    if not _made:
        _made.append(with_template(STORIES))
    return common.server(str(_made[0]), *arguments)


def stories_server():
    """stories260K as it is, whose greedy texts are known."""
    if not STORIES.is_dir():
        raise unittest.SkipTest("shared/data/models/stories260K is not here")
    return common.server(str(STORIES))


def expected_greedy():
    return json.loads((STORIES.parent / "expected_greedy.json").read_text())["cases"]


def events(body):
    """The data of each event of a stream's body."""
    if isinstance(body, bytes):
        body = body.decode()
    assert body.endswith("\n\n"), body[-80:]
    lines = body[:-2].split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines), lines
    return [line[len("data: ") :] for line in lines]


def chunks(body):
    """The chunks of a stream that ended well."""
    found = events(body)
    assert found[-1] == "[DONE]", found[-1]
    return [json.loads(event) for event in found[:-1]]


def error_of(answer):
    """The error object of an answer, after its shape was checked."""
    status, headers, body = answer
    assert headers["Content-Type"] == "application/json", headers["Content-Type"]
    document = json.loads(body)
    assert list(document) == ["error"], document
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    return error
