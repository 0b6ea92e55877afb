"""Runs the end-to-end tests (tests/e2e/test_*.py) against a built `optima`.

    run.py --binary build/optima [name ...]     names select modules: `run.py chat` runs test_chat.py
    --device cuda                               test_cuda.py tests this device, not the emulated one
    --shared FOLDER                             where given models and data lie
"""

import argparse
import pathlib
import sys
import time
import unittest

import common


SLOWEST = 10  # tests that are listed with their times


class TimedResult(unittest.TextTestResult):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seconds = {}

    def startTest(self, test):
        self.began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.seconds[test.id()] = time.monotonic() - self.began
        super().stopTest(test)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--device")
    parser.add_argument("--shared", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    common.binary = arguments.binary.resolve()
    common.cuda_device = arguments.device
    common.SHARED = arguments.shared or common.SHARED
    folder = pathlib.Path(__file__).parent
    loader = unittest.defaultTestLoader
    if arguments.names:
        suite = loader.loadTestsFromNames([f"test_{name}" for name in arguments.names])
    else:
        suite = loader.discover(str(folder), pattern="test_*.py")
    result = unittest.TextTestRunner(verbosity=1, resultclass=TimedResult).run(suite)
    for test, seconds in sorted(result.seconds.items(), key=lambda item: -item[1])[:SLOWEST]:
        print(f"{seconds:6.1f} s  {test}")
    failures = common.stop_servers()
    for failure in failures:
        print(failure, file=sys.stderr)
    passed = result.testsRun - len(result.failures) - len(result.errors) - len(result.skipped)
    print(f"{passed} passed, {len(result.failures) + len(result.errors) + len(failures)} failed, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() and not failures else 1


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    sys.exit(main())
