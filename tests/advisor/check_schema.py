"""What the C tests wrote fits the schema, and documents that break the contract do not.

    check_schema.py FOLDER      where test_advisor_report wrote its documents
"""

import copy
import json
import pathlib
import sys

import schema


def broken(report):
    """(what is wrong, a document with that one thing wrong)"""
    def change(what, edit):
        document = copy.deepcopy(report)
        edit(document)
        return what, document

    figure = report["measured"]["load"]["output_rate"]
    assert figure["source"] == "measured"
    yield change("a number without a source", lambda r: r["measured"]["load"]["output_rate"].pop("source"))
    yield change("a number of unknown source", lambda r: r["measured"]["load"]["output_rate"].update(source="unknown"))
    yield change("nothing that was measured", lambda r: r["measured"]["load"]["output_rate"].update(value=None))
    yield change("an invented source", lambda r: r["measured"]["load"]["output_rate"].update(source="guess"))
    yield change("another schema", lambda r: r.update(schema=2))
    yield change("no verdict", lambda r: r.pop("verdict"))
    yield change("a field that nobody described", lambda r: r.update(extra=1))
    yield change("an effect without a range", lambda r: r["findings"][0]["effect"].pop("factor"))
    yield change("an effect without a method", lambda r: r["findings"][0]["effect"].update(method=""))
    yield change("changed answers without a check", lambda r: r["findings"][1].update(quality_gate=None))
    yield change("an unknown confidence", lambda r: r["verdict"].update(confidence="sure"))


def main():
    folder, failures = pathlib.Path(sys.argv[1]), []
    for kind in ("report", "ledger", "roofline"):
        for case in ("full", "empty"):
            document = json.loads((folder / f"{kind}_{case}.json").read_text())
            failures += [f"{kind}_{case}: {line}" for line in schema.check(document, None if kind == "report" else f"{kind}_page")]
    report = json.loads((folder / "report_full.json").read_text())
    failures += [f"the schema allows {what}" for what, document in broken(report) if not schema.check(document)]
    print("\n".join(failures) or "ok")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
