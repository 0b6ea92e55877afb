"""Validates a JSON document against tests/advisor/schema.json (JSON Schema 2020-12, the keywords that it uses).

    schema.py FILE [NAME]      NAME: of $defs ("ledger_page"); without it the whole schema
"""

import json
import pathlib
import sys

SCHEMA = json.loads(pathlib.Path(__file__).with_name("schema.json").read_text())
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
KNOWN = {"$schema", "$id", "$ref", "$defs", "title", "description", "type", "enum", "const", "properties", "required",
         "additionalProperties", "items", "anyOf", "minLength"}


def has_type(value, name):
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name])


def errors(value, schema, where="$"):
    """One line for each place that the schema forbids."""
    unknown = set(schema) - KNOWN
    if unknown:
        yield f"{where}: the validator does not know {sorted(unknown)}"
    if "$ref" in schema:
        target = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from errors(value, target, where)
    types = schema.get("type")
    types = [types] if isinstance(types, str) else types
    if types and not any(has_type(value, name) for name in types):
        yield f"{where}: {value!r} is not of type {types}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "anyOf" in schema and all(any(errors(value, option, where)) for option in schema["anyOf"]):
        yield f"{where}: {json.dumps(value)[:200]} fits none of the alternatives"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{where}: the text is too short"
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from errors(item, schema["items"], f"{where}[{i}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                yield f"{where}: {name} is missing"
        for name, item in value.items():
            if name in properties:
                yield from errors(item, properties[name], f"{where}.{name}")
            elif schema.get("additionalProperties") is False:
                yield f"{where}: {name} is not in the schema"


def check(document, name=None):
    """All errors of a parsed document."""
    return list(errors(document, SCHEMA["$defs"][name] if name else SCHEMA))


def main():
    found = check(json.loads(pathlib.Path(sys.argv[1]).read_text()), sys.argv[2] if len(sys.argv) > 2 else None)
    print("\n".join(found[:20]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
