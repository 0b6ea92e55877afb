"""The plugin for CUDA devices shows the program one symbol, so that nothing of it can replace a function elsewhere.

Arguments: nm, the plugin.
"""

import subprocess
import sys

ALLOWED = {"optima_backend_driver"}


def main():
    lines = subprocess.run([sys.argv[1], "-D", "--defined-only", sys.argv[2]], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1] for line in lines.splitlines()}
    print(f"{sys.argv[2]} exports {sorted(names)}")
    return 1 if names - ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
