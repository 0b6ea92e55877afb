"""The advisor's pages over HTTP: forms, parameters, refusals; and `optima advise`."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import common

sys.path.insert(0, str(common.ROOT / "tests" / "advisor"))
import schema  # noqa: E402

PAGES = {"/advisor": None, "/advisor/ledger": "ledger_page", "/advisor/roofline": "roofline_page", "/advisor/memory": "memory_page",
         "/advisor/history": "history_page", "/advisor/experiments": "experiments_page"}


def measured_server(*arguments):
    """A server that has answered something, and whose advisor has seen it."""
    running = common.server(*arguments)
    common.post(running, "/v1/completions", {"prompt": "Once", "max_tokens": 40, "seed": 1})
    assert common.eventually(lambda: common.get(running, "/advisor")[0] == 200), common.get(running, "/advisor")
    return running


class Pages(unittest.TestCase):
    def test_every_page_fits_its_schema(self):
        running = measured_server()
        for path, name in PAGES.items():
            with self.subTest(path):
                status, headers, body = common.get(running, path)
                self.assertEqual(status, 200, body)
                self.assertEqual(headers["Content-Type"], "application/json")
                self.assertEqual(schema.check(json.loads(body), name), [])

    def test_markdown_leads_with_the_diagnosis(self):
        running = measured_server()
        for path, headers in (("/advisor?format=md&window=60", {}), ("/advisor", {"Accept": "text/markdown, */*;q=0.1"})):
            status, answer, body = common.get(running, path, headers=headers)
            self.assertEqual((status, answer["Content-Type"]), (200, "text/markdown; charset=utf-8"))
            self.assertTrue(body.startswith(b"## Diagnosis: "), body[:80])

    def test_a_wrong_parameter_is_named(self):
        running = measured_server()
        cases = {"window=9": "window", "window=601": "window", "window=abc": "window", "window=": None, "window=1e2": "window",
                 "window=30&window=30": "window", "format=xml": "format", "windw=30": None, "format=md&window=%00": "window"}
        for query, param in cases.items():
            with self.subTest(query):
                status, _, body = common.get(running, "/advisor?" + query)
                if query == "window=":
                    self.assertEqual(status, 200)
                    continue
                error = json.loads(body)["error"]
                self.assertEqual((status, error["param"]), (400, param), error)
                self.assertNotIn("abc", error["message"])
        for path in ("/advisor/ledger", "/advisor/roofline", "/advisor/memory", "/advisor/history", "/advisor/experiments"):
            status, _, body = common.get(running, path + "?x=1")
            self.assertEqual((status, json.loads(body)["error"]["code"]), (400, "unknown_parameter"), path)
        for path in ("/advisor/experiments", "/advisor/rollback/x1"):
            status, _, body = common.post(running, path + "?x=1", {})
            self.assertEqual((status, json.loads(body)["error"]["code"]), (400, "unknown_parameter"), path)

    def test_numbers_are_those_of_the_server(self):
        running = measured_server()
        ask = lambda: json.loads(common.get(running, "/advisor?window=600")[2])
        self.assertTrue(common.eventually(lambda: ask()["steps"] > 0))
        report = ask()
        self.assertEqual(report["context"]["model"], "optima-demo")
        shares = sum(line["share"] or 0 for line in report["ledger"]["lines"])
        self.assertAlmostEqual(shares, 1, delta=0.02)

    def test_metrics_hold_the_advisors_gauges(self):
        running = measured_server()
        self.assertTrue(common.eventually(lambda: b"optima_bottleneck_info{" in common.get(running, "/metrics")[2]))


class Experiments(unittest.TestCase):
    def test_self_tune_is_off_unless_asked_for(self):
        running = measured_server()
        for request in ({"setting": "sequences", "value": 8}, {"finding": "R999"}, [], {"x": 1}):
            status, _, body = common.post(running, "/advisor/experiments", request)
            self.assertEqual((status, json.loads(body)["error"]["code"]), (403, "self_tune_off"), request)

    def test_nothing_can_be_tried_before_something_was_measured(self):
        running = common.Server(["--self-tune", "suggest"])
        try:
            status, _, body = common.post(running, "/advisor/experiments", {"finding": "R999"})
            late = common.get(running, "/advisor")[0] == 200  # the first seconds had passed already, or passed between
            error = json.loads(body)["error"]
            self.assertIn((status, error["code"]), [(503, "not_measured_yet")] + [(400, "invalid_value")] * late)
        finally:
            running.stop()

    def test_wrong_requests_are_told_why(self):
        running = measured_server("--self-tune", "suggest")
        cases = [({}, "finding"), ({"finding": "R999"}, "/advisor"), ({"setting": "speed", "value": 1}, "setting"), ({"setting": "sequences"}, "value"),
                 ({"setting": "sequences", "value": 0}, "from 1"), ({"setting": "sequences", "value": 8, "pairs": 2}, "pairs"),
                 ({"setting": "sequences", "value": 8, "metric": "speed"}, "metric"), ({"setting": "sequences", "value": 8, "blocks": 2}, "known"),
                 ({"setting": "sequences", "value": 8, "block_s": 1e9}, "block_s"), ([], "object")]
        for body, part in cases:
            with self.subTest(body):
                status, _, answer = common.post(running, "/advisor/experiments", body)
                self.assertEqual(status, 400, answer)
                self.assertIn(part, json.loads(answer)["error"]["message"])
        self.assertEqual(common.request(running, "POST", "/advisor/experiments", b"{", headers={})[0], 400)

    def test_what_cannot_be_told_yet_is_refused(self):
        running = measured_server("--self-tune", "suggest")
        status, _, body = common.post(running, "/advisor/experiments", {"setting": "sequences", "value": 8})
        self.assertEqual(status, 400, body)
        self.assertRegex(json.loads(body)["error"]["message"], "watched for|too little traffic")
        self.assertEqual(json.loads(common.get(running, "/advisor/experiments")[2])["experiments"], [])

    def test_an_unknown_experiment_cannot_be_rolled_back(self):
        running = measured_server()
        for name in ("x999", "a%2fb", "%20", "R1"):
            self.assertIn(common.post(running, f"/advisor/rollback/{name}", {})[0], (403, 404), name)

    def test_settings_need_an_admin_key(self):
        with tempfile.TemporaryDirectory() as folder:
            keys, admin = pathlib.Path(folder, "keys"), pathlib.Path(folder, "admin")
            keys.write_text("user\n")
            admin.write_text("root\n")
            running = common.Server(["--api-keys", str(keys), "--admin-keys", str(admin)])
            try:
                ask = lambda key: common.post(running, "/advisor/experiments", {}, headers={"Authorization": f"Bearer {key}"} if key else {})[0]
                self.assertEqual([ask(None), ask("wrong"), ask("user")], [401, 401, 403])
                self.assertNotIn(ask("root"), (401,))
                self.assertEqual(common.get(running, "/advisor")[0], 401)
                self.assertEqual(common.get(running, "/")[0], 200)
            finally:
                running.stop()


class Page(unittest.TestCase):
    def test_the_page_is_one_file_that_may_run_nothing_else(self):
        status, headers, body = common.get(common.server(), "/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(headers["X-Frame-Options"], "DENY")
        for forbidden in (b"innerHTML", b"insertAdjacentHTML", b"document.write", b"eval(", b"https://", b" onclick=", b" style=", b"<script "):
            self.assertNotIn(forbidden, body)


class Advise(unittest.TestCase):
    def run_advise(self, *arguments):
        return subprocess.run([str(common.binary), "advise", *arguments], capture_output=True, text=True, timeout=60)

    def test_it_prints_the_report(self):
        running = measured_server()
        done = self.run_advise(running.url, "--window", "60")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(done.stdout.startswith("## Diagnosis: "), done.stdout[:80])
        document = json.loads(self.run_advise(running.url, "--json").stdout)
        self.assertEqual(schema.check(document), [])

    def test_options_that_need_a_restart_are_tried_on_two_servers(self):
        load = "--users 2 --requests 4 --prompt-tokens 8 --output-tokens 8"
        done = self.run_advise("--offline", "demo", "--try", "--sequences 1", "--workload", load, "--pairs", "6")
        self.assertIn(done.returncode, (0, 3), done.stderr)
        self.assertTrue(done.stdout.startswith("A: optima serve demo"), done.stdout)
        self.assertIn("After 6 pairs", done.stdout)
        done = self.run_advise("--offline", "demo", "--try", "--weights int8", "--workload", load, "--pairs", "6")
        self.assertIn("optima eval demo --text YOUR_TEXT --reference demo --weights int8", done.stdout)

    def test_failures_are_one_line(self):
        url = common.server().url
        for arguments in (["http://127.0.0.1:1"], ["--window", "5"], ["ftp://x"], [url, "--api-key-file", "/nowhere"],
                          [url, "--experiment", "sequences=many"], [url, "--experiment", "R1", "--guard", "e2e=1s"], [url, "--rollback", "x999"],
                          ["--offline", "demo"], ["--offline", "demo", "--try", "--sequences 0"], ["--offline", "/nowhere", "--try", "--sequences 2"]):
            done = self.run_advise(*arguments)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
