#!/usr/bin/env python3
"""Sends the shared corpus of raw HTTP requests to a server and judges the answers.

usage: http_corpus.py HOST PORT [PATH]    (PATH answers GET; default /health)

Prints one line for each failure and ends with status 1 when there is any. A strict server refuses three requests that
the corpus lists as valid: a body with both Transfer-Encoding and Content-Length, a blank before a chunk extension, and
a request target that is not ASCII.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

CORPUS = pathlib.Path(__file__).resolve().parents[3] / "shared" / "suites" / "http"
REFUSED_ON_PURPOSE = {"gunicorn:valid/009", "gunicorn:valid/013", "gunicorn:valid/027"}


def failures(host, port, path="/health"):
    """Runs the corpus; returns a line for each unexpected result, among them a server that no longer answers."""
    with tempfile.NamedTemporaryFile(suffix=".json") as results:
        command = [sys.executable, CORPUS / "run_corpus.py", host, str(port), "--path", path, "--out", results.name]
        run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if run.returncode != 0:
            return [f"the runner failed: {run.stderr.strip()}"]
        verdicts = json.loads(pathlib.Path(results.name).read_text())
    lines = [
        f"{row['id']}: expected {row['expect']}, got {row['status']}, {'closed' if row['closed'] else 'open'}"
        for row in verdicts
        if row["verdict"] == "FAIL" and row["id"] not in REFUSED_ON_PURPOSE
    ]
    if len(verdicts) < 300:
        lines.append(f"only {len(verdicts)} requests were sent")
    if "liveness [200]" not in run.stdout and "liveness [403]" not in run.stdout:
        lines.append("the server does not answer any more")
    return lines


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    if not CORPUS.is_dir():
        print("skipped: the corpus is not here")
        return 0
    lines = failures(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    print("\n".join(lines) if lines else "no failures")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
