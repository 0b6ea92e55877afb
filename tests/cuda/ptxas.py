"""What ptxas said about the kernels: no kernel spills registers, keeps a stack, or has its wgmma serialised.

Arguments are the objects of the plugin, as a list with semicolons or several; messages lie beside them (keep_messages.sh).
"""

import pathlib
import re
import sys

# Kernels that run once a start, or that take microseconds a step whatever they do: parts of their names.
COLD = [
    "embed_kernel",  # angles of any size take the long way of cosf, which has a stack
]


def check(messages):
    """Yields what is wrong in one file's messages."""
    kernel = ""
    for line in messages.split("\n"):
        entry = re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line)
        if entry:
            kernel = f"{entry[1]} ({entry[2]})"
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if frame and any(int(n) for n in frame.groups()) and not any(name in kernel for name in COLD):
            yield f"{kernel}: {line.strip()}"
        if re.search(r"\bC75\d\d\b", line) or "wgmma" in line and "serializ" in line:
            yield f"{kernel}: {line.strip()}"
    if "ptxas info" not in messages:
        yield "nothing from ptxas: were messages kept?"


def main():
    objects = [pathlib.Path(o) for argument in sys.argv[1:] for o in argument.split(";") if o.endswith(".cu.o")]
    problems = []
    for path in objects:
        messages = pathlib.Path(f"{path}.messages").read_text(encoding="utf-8")
        problems += [f"{path.name}: {problem}" for problem in check(messages)]
    print("\n".join(problems))
    print(f"{len(objects)} objects, {len(problems)} problems")
    return 1 if problems or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
