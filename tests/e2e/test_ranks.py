"""Two processes share a model over MPI: the same text as one, and an end when one of them goes."""

import json
import os
import pathlib
import shutil
import signal
import time
import unittest

import common

STORIES = common.SHARED / "data" / "models" / "stories260K"
# Leaks and the order of locks are MPI's own; mpirun refuses root unless told twice.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "ASAN_OPTIONS": "detect_leaks=0",
    "TSAN_OPTIONS": os.environ["TSAN_OPTIONS"] + ":detect_deadlocks=0",
}


def has_mpi():
    return shutil.which("mpirun") and (common.binary.parent / "liboptima_mpi.so").exists()


def start(*arguments, n_ranks=2, options=()):
    launcher = ["mpirun", *options, "--oversubscribe", "-n", str(n_ranks)]
    return common.Server(["--threads", "1", *arguments], launcher, ENVIRONMENT)


def complete(running, **fields):
    status, _, body = common.post(running, "/v1/completions", {"prompt": "Once upon a time", **fields})
    return status, json.loads(body)


def rank_process(running, rank):
    """The process id of a rank that mpirun has started."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == running.process.pid and f"OMPI_COMM_WORLD_RANK={rank}".encode() in environment:
            return int(entry.name)
    raise LookupError(f"rank {rank} does not run")


def stop(running):
    """Ends the server as its supervisor would: mpirun gives the ranks' status when they end by themselves."""
    os.kill(rank_process(running, 0), signal.SIGTERM)
    return running.process.wait(timeout=60)


class Ranks(unittest.TestCase):
    def setUp(self):
        if not has_mpi():
            self.skipTest("no OpenMPI")

    def check_same_text(self, *model):
        one, two = common.server(*model, "--threads", "1"), start(*model)
        try:
            for fields in ({"temperature": 0, "max_tokens": 80}, {"temperature": 0.8, "seed": 7, "max_tokens": 40, "n": 3}):
                self.assertEqual(complete(one, **fields)[1]["choices"], complete(two, **fields)[1]["choices"])
        finally:
            self.assertEqual(stop(two), 0, two.output())

    def test_two_ranks_write_what_one_writes(self):
        if not STORIES.exists():
            self.skipTest("no ../shared: a model with F32 weights")
        self.check_same_text(str(STORIES / "hf"))

    def test_the_demo_model_runs_on_two_ranks(self):
        running = start()
        try:
            status, answer = complete(running, temperature=0, max_tokens=16)
            self.assertEqual((status, answer["usage"]["completion_tokens"]), (200, 16))
        finally:
            self.assertEqual(stop(running), 0, running.output())

    def test_too_many_ranks_are_one_clear_line(self):
        with self.assertRaisesRegex(RuntimeError, "3 ranks cannot share 4 heads"):
            start(n_ranks=3)

    def test_a_rank_that_dies_ends_the_others(self):
        running = start(options=["--enable-recovery"])
        try:
            os.kill(rank_process(running, 1), signal.SIGKILL)
            began = time.monotonic()
            status, _ = complete(running, max_tokens=4)
            self.assertEqual(status, 500)
            self.assertLess(time.monotonic() - began, 10)
            self.assertTrue(common.eventually(lambda: "another rank" in running.output()))
        finally:
            running.process.kill()
            running.process.wait()


if __name__ == "__main__":
    unittest.main()
