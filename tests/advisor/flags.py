"""Every option that the advisor names exists: what stands in the strings of its rules is looked up in the program's own help.

    flags.py OPTIMA SOURCE_FOLDER
"""

import pathlib
import re
import subprocess
import sys

STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
COMMAND = re.compile(r"\b(optima) (serve|bench|eval|advise|chat)\b|\b(numactl)\b")


def literals(source):
    """The string literals of a C file; neighbours are one. Comments hold no advice."""
    text = re.sub(r"//[^\n]*|^#[^\n]*", "", source, flags=re.M)
    text = re.sub(r'"\s*\n?\s*"', "", text)
    return [m.group(1).replace('\\"', '"') for m in STRING.finditer(text)]


def uses(literal):
    """(command, option) of a text: an option belongs to the command before it, and to `optima serve` where there is none."""
    command = "serve"
    for word in re.finditer(COMMAND.pattern + r"|(?<![\w-])(--[a-z][a-z-]*)", literal):
        if word.group(2):
            command = word.group(2)
        elif word.group(3):
            command = word.group(3)
        elif word.group(4):
            yield command, word.group(4)


def options_of(optima, command):
    """All options in the help of a command; optima advise has two of them."""
    words = [[command, "--help"]] + ([["advise", "--offline", "MODEL", "--help"]] if command == "advise" else [])
    text = "".join(subprocess.run([optima, *w], capture_output=True, text=True, timeout=60).stdout for w in words)
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def main():
    optima, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    known, problems, n = {"numactl": {"--cpunodebind", "--membind"}}, [], 0
    for path in [*sorted(folder.glob("rule*.c")), folder / "diagnosis.c"]:
        for literal in literals(path.read_text()):
            for command, option in uses(literal):
                n += 1
                if command not in known:
                    known[command] = options_of(optima, command)
                if option not in known[command]:
                    problems.append(f"{path.name}: {command} has no {option}: \"{literal[:90]}\"")
    print("\n".join(problems))
    print(f"{n} options named, {len(problems)} that do not exist")
    return 1 if problems or n < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
