"""What the machine code for 9.0 does that no source says: products have weights on the way before they wait for the
kernel before them, all in loads of 16 bytes, and no kernel keeps arrays in memory.

Arguments: cuobjdump, the plugin.
"""

import re
import subprocess
import sys

# Kernels that may use local memory, as in ptxas.py: parts of their names.
COLD = ["embed_kernel"]
# Kernels that read weights before they wait: parts of their mangled names.
EARLY, LOADS_MIN = "10own_kernelI", 4


def functions(text):
    """Yields the name and the instructions of each kernel."""
    for part in re.split(r"Function : ", text)[1:]:
        name, code = part.split("\n", 1)
        yield name, re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ +)?([A-Z][\w.]*)", code, re.M)


def problems_of(name, instructions):
    if not any(cold in name for cold in COLD) and any(i.startswith(("LDL", "STL")) for i in instructions):
        yield f"{name} uses local memory"
    if EARLY not in name:
        return
    early = instructions[: instructions.index("ACQBULK")] if "ACQBULK" in instructions else []
    loads = sum(i.startswith("LDG") and "CONSTANT" in i and ".128" in i for i in early)
    if loads < LOADS_MIN:
        yield f"{name} begins {loads} loads of weights before it waits, not {LOADS_MIN}"


def main():
    cuobjdump, plugin = sys.argv[1:3]
    command = [cuobjdump, "-sass", "-arch", "sm_90a", plugin]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kernels = list(functions(text))
    problems = [problem for name, instructions in kernels for problem in problems_of(name, instructions)]
    if not any(EARLY in name for name, _ in kernels):
        problems.append("no product is among the kernels")
    print("\n".join(problems))
    print(f"{len(kernels)} kernels, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
