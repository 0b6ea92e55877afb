"""`optima eval`: perplexities of texts equal transformers', a model equals itself, bad input is one line."""

import json
import math
import pathlib
import subprocess
import tempfile
import unittest

import common

EXPECTED = json.loads((common.ROOT / "tests" / "golden" / "perplexity.json").read_text())
STORIES = common.SHARED / "data" / "models" / "stories260K" / "hf"


def run(*arguments):
    done = subprocess.run([str(common.binary), "eval", *map(str, arguments)], capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Eval(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.text = pathlib.Path(self.folder.name) / "text"
        self.text.write_text(EXPECTED["text"])

    def measure(self, *arguments):
        status, out, err = run(*arguments, "--text", self.text, "--device", "cpu", "--json")
        self.assertEqual((status, err), (0, ""))
        return json.loads(out)

    def check(self, name, model, tolerance):
        cases = [case for case in EXPECTED["cases"] if case["model"] == name]
        self.assertGreaterEqual(len(cases), 3)
        for case in cases:
            stride = ["--stride", case["stride"]] if case["stride"] else []
            found = self.measure(model, "--as", case["as"], "--window", case["window"], *stride)
            self.assertEqual((found["tokens"], found["tokens_scored"]), (case["tokens"], case["tokens_scored"]))
            mean, low, high = (found["perplexity"][key] for key in ("mean", "low", "high"))
            self.assertLess(abs(mean / case["perplexity"] - 1), tolerance)
            self.assertTrue(low < mean < high)

    def test_the_demo_has_transformers_perplexity(self):
        self.check("demo", "demo", 2e-3)  # its weights multiply inputs rounded to BF16

    def test_stories_have_transformers_perplexity(self):
        if not STORIES.exists():
            self.skipTest(f"{STORIES} is not there")
        self.check("stories260K", STORIES, 1e-4)

    def test_a_model_is_as_far_from_itself_as_its_formats_are(self):
        same = self.measure("demo", "--reference", "demo")
        self.assertEqual(same["divergence"], {"mean": 0, "low": 0, "high": 0})
        self.assertEqual((same["divergence_max"], same["agreement"]), (0, 1))
        self.assertEqual(same["perplexity_difference"]["mean"], 0)
        distances = [self.measure("demo", "--weights", weights, "--reference", "demo") for weights in ("int8", "int4")]
        int8, int4 = (d["divergence"]["mean"] for d in distances)
        self.assertTrue(0 < int8 < int4 < 0.5, (int8, int4))
        self.assertLess(int8, 1e-3)
        for d in distances:
            self.assertLessEqual(d["divergence_median"], d["divergence_p99"])
            self.assertLessEqual(d["divergence_p99"], d["divergence_max"])
        back = self.measure("demo", "--reference", "demo", "--reference-weights", "int4")
        self.assertEqual(back["reference_perplexity"], distances[1]["perplexity"])

    def test_bits_count_the_bytes_of_the_text(self):
        found = self.measure("demo")
        n_bytes = len(EXPECTED["text"]) - len("Once")  # the first token has nothing before it
        bits = math.log2(found["perplexity"]["mean"]) * found["tokens_scored"] / n_bytes
        self.assertAlmostEqual(found["bits_per_byte"]["mean"], bits, places=6)

    def test_people_get_a_table(self):
        status, out, err = run("demo", "--text", self.text, "--reference", "demo", "--tokens", 20)
        self.assertEqual((status, err), (0, ""))
        for word in ("perplexity", "transformers", "difference", "divergence", "agreement", "19 tokens"):
            self.assertIn(word, out)

    def test_bad_input_is_one_line(self):
        empty, binary = pathlib.Path(self.folder.name) / "empty", pathlib.Path(self.folder.name) / "binary"
        empty.write_text("")
        binary.write_bytes(b"\xff\xfe\x00")
        cases = [
            (["--text", self.text], "PATH"),
            (["demo"], "--text"),
            (["demo", "--text", "/nothing"], "/nothing"),
            (["/nothing", "--text", self.text], "/nothing"),
            (["demo", "--text", empty], "tokens"),
            (["demo", "--text", binary], "UTF-8"),
            (["demo", "--text", self.text, "--window", 5000], "1024"),
            (["demo", "--text", self.text, "--window", 1], "--window"),
            (["demo", "--text", self.text, "--window", 32, "--stride", 33], "stride"),
            (["demo", "--text", self.text, "--as", "llama.cpp", "--stride", 3], "--stride"),
            (["demo", "--text", self.text, "--as", "llama.cpp"], "1024"),
            (["demo", "--text", self.text, "--as", "perplexity"], "--as"),
            (["demo", "--text", self.text, "--tokens", 1], "--tokens"),
            (["demo", "--text", self.text, "--weights", "int3"], "--weights"),
            (["demo", "--text", self.text, "--reference-weights", "int8"], "--reference"),
            (["demo", "--text", self.text, "--reference", "/nothing"], "/nothing"),
            (["demo", "--text", self.text, "--device", "toaster"], "toaster"),
        ]
        if STORIES.exists():
            cases.append((["demo", "--text", self.text, "--window", 64, "--reference", STORIES], "4096"))
        for arguments, mention in cases:
            status, out, err = run(*arguments)
            self.assertNotEqual(status, 0, arguments)
            self.assertEqual(out, "", arguments)
            self.assertEqual(len(err.splitlines()), 1, err)
            self.assertIn(mention, err)
