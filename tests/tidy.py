"""Style as a failing test: what CONTRIBUTING.md asks for and a program can see.

Folders include only from folders below them, lines and functions and files keep their size, banned calls stay out.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLOORS = ["base", "kernels", "models", "engine", "advisor", "scheduler", "server", "bench", "cli"]
LINE_MAX, FUNCTION_MAX, FILE_MAX, HEADER_MAX = 120, 80, 700, 300
SUFFIXES = [".c", ".h", ".cu", ".cpp"]
# Calls with a better replacement in this project.
BANNED = {
    r"\b(sprintf|vsprintf|strcpy|strcat|gets|strtok|alloca|atoi|atof)\s*\(": "bounded functions, strtol or struct str",
    r"\bmemcmp\s*\([^;]*\bkey(s)?_digest": "a comparison in constant time",
    r"\bgetenv\s*\(": "an option",  # but for the rank that a launcher sets
    r"\b(TODO|FIXME|XXX)\b": "the finished thing",
    r"cJSON_GetObjectItem\s*\(": "cJSON_GetObjectItemCaseSensitive",
}


def check_lines(path, lines):
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        if len(line) > LINE_MAX:
            yield f"{where}: {len(line)} columns (at most {LINE_MAX})"
        if line != line.rstrip() or "\t" in line:
            yield f"{where}: a tab or a blank at the end"
        for pattern, better in BANNED.items():
            if re.search(pattern, line) and not (path.name == "comm.c" and better == "an option"):
                yield f"{where}: use {better}"


def check_includes(path, lines):
    folder = path.parts[0]
    if folder not in FLOORS:
        return
    for number, line in enumerate(lines, 1):
        found = re.match(r'\s*#\s*include\s+"([a-z0-9_]+)/', line)
        if found and found.group(1) in FLOORS and FLOORS.index(found.group(1)) > FLOORS.index(folder):
            yield f"{path}:{number}: {folder}/ may not include {found.group(1)}/"


def check_functions(path, lines):
    start, name = None, ""
    for number, line in enumerate(lines, 1):
        opens = re.match(r"[a-zA-Z_].*\b(\w+)\s*\(.*\{\s*$", line) or (
            re.match(r"\s+.*\)\s*\{\s*$", line) and start is None and number > 1 and re.match(r"[a-zA-Z_].*\b(\w+)\s*\(", lines[number - 2])
        )
        if opens and start is None and not line.startswith((" ", "#")):
            start, name = number, opens.group(1)
        if line.startswith("}") and start is not None:
            if number - start > FUNCTION_MAX:
                yield f"{path}:{start}: {name} has {number - start} lines (at most {FUNCTION_MAX})"
            start = None


def main():
    files = [p.relative_to(ROOT) for folder in [*FLOORS, "tests"] for p in sorted((ROOT / folder).rglob("*")) if p.suffix in SUFFIXES]
    problems = []
    for path in files:
        lines = (ROOT / path).read_text(encoding="utf-8").split("\n")[:-1]
        problems += check_lines(path, lines)
        problems += check_includes(path, lines)
        if path.suffix != ".h":
            problems += check_functions(path, lines)
        # Headers in tests/ and templates, which several files include with other names, hold code.
        is_header = path.suffix == ".h" and path.parts[0] != "tests" and not path.stem.endswith("_template")
        size_max = HEADER_MAX if is_header else FILE_MAX
        if len(lines) > size_max and not lines[0].startswith("// A table"):
            problems.append(f"{path}: {len(lines)} lines (at most {size_max})")
    print("\n".join(problems))
    print(f"{len(files)} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
