"""`optima bench`: its files, its comparisons, and its report in a browser that may ask nobody."""

import csv
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import common

LOAD = ("--quiet", "--users", "3", "--requests", "60", "--prompt-tokens", "24", "--output-tokens", "6")


def bench(*arguments, timeout=120):
    done = subprocess.run([str(common.binary), "bench", *map(str, arguments)], capture_output=True, timeout=timeout)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class Files(Folder):
    def test_all_forms_tell_the_same_run(self):
        running = common.server("demo")
        before = common.metric(running, "vllm:generation_tokens_total")
        paths = [self.folder / name for name in ("run.json", "run.csv", "run.html")]
        status, out, err = bench(
            running.url, *LOAD, "--api-key", "secret", "--json", paths[0], "--csv", paths[1], "--html", paths[2]
        )
        self.assertEqual((status, err), (0, ""))
        document = json.loads(paths[0].read_text())
        (run,) = document["runs"]
        rows = list(csv.DictReader(paths[1].open()))
        self.assertEqual(len(rows), 60)
        self.assertEqual({row["outcome"] for row in rows}, {"completed"})
        self.assertEqual([float(row["ttft_ms"]) for row in rows], run["requests"]["ttft_ms"])
        for path in paths:
            self.assertNotIn("secret", path.read_text())
        # The server counted what the client did; two more tokens are those of the client's questions before the run.
        tokens = common.metric(running, "vllm:generation_tokens_total") - before
        self.assertEqual(sum(run["requests"]["output_tokens"]) + 2, tokens)
        numbers = {row["title"]: row for row in run["server"]["numbers"]}
        self.assertEqual(numbers["output tokens"]["disagreement"], 0)
        self.assertEqual(numbers["requests completed"]["server"], 60)
        self.assertIn("the server's own numbers", out)
        self.assertEqual(run["summary"]["latency_ms"]["ttft"]["p99"], [None, None, None])  # of 60 requests

    def test_standard_output_is_the_document_alone(self):
        status, out, err = bench(common.server("demo").url, *LOAD, "--json", "-")
        self.assertEqual(status, 0)
        self.assertEqual(json.loads(out)["kind"], "run")
        self.assertIn("requests/s", err)

    def test_explain_names_other_clients(self):
        status, out, _ = bench("--explain")
        self.assertEqual(status, 0)
        for word in ("TTFT", "ITL", "goodput", "vLLM", "guidellm", "AIPerf"):
            self.assertIn(word, out)

    def test_bad_requests_get_one_line(self):
        url = common.server("demo").url
        cases = [
            ((), 2, "URL"),
            ((url, "--json", "/nowhere/x.json"), 1, "/nowhere/x.json"),
            ((url, "--json", "-", "--csv", "-"), 1, "only one"),
            ((url, "--sweep"), 1, "--slo"),
            ((url, "--sweep", "--slo", "ttft=1s", "--users", "2"), 1, "--users"),
            (("http://127.0.0.1:9",), 1, "127.0.0.1:9"),
            (("compare", "/nowhere.json", "/nowhere.json"), 1, "/nowhere.json"),
            (("compare", "/nowhere.json"), 2, "two files"),
            (("ab", "--a", url), 2, "--b"),
            (("ab", "--a", url, "--b", "http://127.0.0.1:9"), 1, "B: "),
        ]
        path = self.folder / "never.json"
        cases.append((("http://127.0.0.1:9", "--json", path), 1, "127.0.0.1:9"))
        for arguments, status, mention in cases:
            got, _, err = bench(*arguments)
            self.assertEqual((got, len(err.splitlines())), (status, 1), (arguments, err))
            self.assertIn(mention, err)
        self.assertFalse(path.exists())


class Sweep(Folder):
    def test_what_cannot_be_held_is_not_looked_for(self):
        path = self.folder / "sweep.json"
        status, out, err = bench(common.server("demo").url, "--quiet", "--sweep", "--slo", "e2e=0.001ms", "--json", path)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("even one user", out)
        document = json.loads(path.read_text())
        self.assertIsNone(document["sweep"]["rate"])
        self.assertEqual(len(document["runs"]), 1)


class Comparisons(Folder):
    def run_file(self, name, *arguments):
        path = self.folder / name
        status, _, err = bench(common.server("demo").url, *LOAD, "--json", path, *arguments)
        self.assertEqual((status, err), (0, ""))
        return path

    def test_runs_are_compared_in_pairs(self):
        first = self.run_file("a.json", "--seed", "1", "--warm-up", "0")
        again = self.folder / "again.json"
        again.write_text(first.read_text())
        status, out, _ = bench("compare", first, again)
        self.assertEqual(status, 0)
        self.assertIn("60 pairs", out)
        self.assertIn("No difference shown", out)
        # Ten times slower by its file: worse, and so says the status.
        document = json.loads(first.read_text())
        requests = document["runs"][0]["requests"]
        for column in ("ttft_ms", "tpot_ms", "e2e_ms"):
            requests[column] = [value and value * 10 for value in requests[column]]
        again.write_text(json.dumps(document))
        status, out, _ = bench("compare", first, again, "--html", self.folder / "compare.html")
        self.assertEqual(status, 3)
        self.assertIn("B is worse", out)
        self.assertEqual(Report.problems(self.folder / "compare.html"), [])

    def test_invalid_runs_are_refused(self):
        path = self.run_file("a.json")
        document = json.loads(path.read_text())
        document["runs"][0].update(valid=False, invalid=["the client was busy"])
        path.write_text(json.dumps(document))
        status, _, err = bench("compare", path, path)
        self.assertEqual(status, 1)
        self.assertIn("the client was busy", err)
        status, out, _ = bench("compare", path, path, "--accept-invalid")
        self.assertEqual(status, 0)
        self.assertIn("the client was busy", out)
        for text in ("{", "[]", '{"optima_bench":99,"runs":[]}', '{"optima_bench":1,"runs":[{"valid":true}]}'):
            path.write_text(text)
            status, _, err = bench("compare", path, path)
            self.assertEqual((status, len(err.splitlines())), (1, 1), text)


class Report(Folder):
    @staticmethod
    def chromium(page, *arguments):
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        if not found:
            raise unittest.SkipTest("no Chromium")
        done = subprocess.run(
            [found, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
            + ["--virtual-time-budget=3000", "--window-size=1280,2400", *arguments, page.as_uri()],
            capture_output=True,
            timeout=120,
        )
        return done.stdout.decode(), re.findall(r"CONSOLE[^\n]*", done.stderr.decode(errors="replace"))

    @classmethod
    def problems(cls, page):
        """What a browser complains about. The page's policy forbids every request: one that is tried is a complaint."""
        return cls.chromium(page, "--dump-dom")[1]

    def test_it_opens_without_errors_and_without_a_network(self):
        running = common.server("demo")
        page, sweep, refused = (self.folder / f"{name}.html" for name in ("run", "sweep", "refused"))
        load = ("--quiet", "--requests", "40", "--prompt-tokens", "24", "--output-tokens", "6")
        self.assertEqual(bench(running.url, *load, "--slo", "ttft=2s,itl=1s", "--html", page)[0], 0)
        status, out, _ = bench(running.url, *load, "--slo", "e2e=60s", "--sweep", "--html", sweep)
        self.assertEqual(status, 0)
        self.assertIn("no limit was found", out)
        status, out, _ = bench(running.url, "--quiet", "--requests", "9", "--prompt-tokens", "9000", "--html", refused)
        self.assertEqual(status, 0)
        self.assertIn("INVALID: no request was completed", out)
        for path, pictures in ((page, 7), (sweep, 5), (refused, 1)):
            dom, complaints = self.chromium(path, "--dump-dom")
            self.assertEqual(complaints, [])
            self.assertGreaterEqual(dom.count("<svg"), pictures, path)
            self.assertIn("Definitions", dom)
            self.assertNotRegex(path.read_text(), r"(src|href)=\"(https?:)?//")
        # The same browser would have complained.
        broken = page.read_text().replace("head(); tiles();", "fetch('http://127.0.0.1:9/'); head(); tilez();")
        page.write_text(broken)
        self.assertEqual(len(self.chromium(page, "--dump-dom")[1]) >= 2, True)

    def test_it_has_its_pictures_in_the_dark_and_on_a_phone(self):
        page, picture = self.folder / "run.html", self.folder / "shot.png"
        self.assertEqual(bench(common.server("demo").url, *LOAD, "--html", page)[0], 0)
        for arguments in (("--force-dark-mode",), ("--window-size=390,3000",)):
            _, complaints = self.chromium(page, f"--screenshot={picture}", *arguments)
            self.assertEqual(complaints, [])
            self.assertGreater(picture.stat().st_size, 20000)
            picture.unlink()


class Pairs(Folder):
    def test_a_server_against_itself(self):
        url = common.server("demo").url
        path, page = self.folder / "ab.json", self.folder / "ab.html"
        status, out, err = bench(
            *("ab", "--a", url, "--b", url, "--pairs", "6", "--requests", "8", "--output-tokens", "4"),
            *("--prompt-tokens", "24", "--quiet", "--json", path, "--html", page),
        )
        self.assertEqual((status in (0, 3), err), (True, ""))
        document = json.loads(path.read_text())
        self.assertLessEqual(len(document["ab"]["ratios"]), 6)
        self.assertEqual([run["name"] for run in document["runs"]], ["A", "B"])
        self.assertEqual(len(document["runs"][1]["requests"]["ttft_ms"]), 8 * len(document["ab"]["ratios"]))
        self.assertIn("means of blocks", out)
        self.assertEqual(Report.problems(page), [])


if __name__ == "__main__":
    unittest.main()
