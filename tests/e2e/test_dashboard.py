"""The page at / in a headless Chromium, with a server under load behind it."""

import pathlib
import tempfile
import threading
import time
import unittest
import urllib.parse

import browser
import common


class Load:
    """Clients that ask again as long as the load is on."""

    def __init__(self, running, n_clients=3):
        self._running, self._ends = running, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,), daemon=True) for i in range(n_clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, i):
        n = 0
        while not self._ends.is_set():
            n += 1
            common.post(self._running, "/v1/completions", {"prompt": f"Once upon a time {i} {n}", "max_tokens": 60, "seed": n})
            self._ends.wait(0.05)

    def end(self):
        self._ends.set()
        for thread in self._threads:
            thread.join(timeout=60)


@unittest.skipUnless(browser.find(), "there is no Chromium")
class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.running = common.server()
        cls.load = Load(cls.running)
        cls.page = browser.Browser()
        common.eventually(lambda: common.get(cls.running, "/advisor/history")[2].count(b"age_s") > 3, 20)

    @classmethod
    def tearDownClass(cls):
        cls.page.close()
        cls.load.end()

    def open(self, width=1280):
        self.page.events.clear()
        self.page.resize(width, 900)
        self.page.open(self.running.url + "/")
        self.assertTrue(self.page.wait("document.querySelectorAll('#tiles .tile').length > 5 && !document.getElementById('charts').hidden"), self.page.troubles())

    def test_main_parts_are_there_and_nothing_complains(self):
        self.open()
        self.assertEqual(self.page.evaluate("document.querySelectorAll('h1').length"), 1)
        self.assertTrue(self.page.evaluate("document.getElementById('headline').textContent.length > 10"))
        for part in ("diagnosis", "tiles", "ledger", "charts", "memory", "playground"):
            self.assertTrue(self.page.evaluate(f"document.getElementById('{part}').checkVisibility()"), part)
        self.assertGreater(self.page.evaluate("document.querySelectorAll('#ledger-body rect').length"), 1)
        self.assertEqual(self.page.troubles(), [])

    def test_it_asks_its_own_server_alone(self):
        self.open()
        time.sleep(0.2)
        hosts = {urllib.parse.urlparse(url).netloc for url in self.page.requested() if not url.startswith("data:")}
        self.assertEqual(hosts, {f"127.0.0.1:{self.running.port}"})

    def test_no_width_scrolls_sideways(self):
        for width in (360, 800, 1280):
            self.open(width)
            self.assertLessEqual(self.page.evaluate("document.documentElement.scrollWidth"), width)

    def test_graphics_have_words(self):
        self.open()
        silent = "[...document.querySelectorAll('svg')].filter(s => s.checkVisibility() && !s.closest('[aria-hidden]') && !s.getAttribute('aria-label')).length"
        self.assertEqual(self.page.evaluate(silent), 0)
        unnamed = "[...document.querySelectorAll('button,input,select,textarea')].filter(n => !(n.textContent.trim() || n.getAttribute('aria-label') || n.labels && n.labels.length)).length"
        self.assertEqual(self.page.evaluate(unnamed), 0)
        self.assertEqual(self.page.evaluate("document.getElementById('headline').getAttribute('aria-live')"), "polite")

    def test_everything_is_reached_by_keyboard(self):
        self.open()
        self.page.evaluate("document.activeElement.blur()")
        reached = []
        for _ in range(120):
            self.page.press("Tab")
            reached.append(self.page.evaluate("(n => n === document.body ? 'body' : n.id || n.dataset.k || n.className.baseVal || n.textContent)(document.activeElement)"))
            if reached[-1] == "clear" or reached.count("body") > 1:
                break
        self.assertEqual(reached[0], "Skip to the diagnosis", reached)
        for part in ("window", "copy-report", "plot"):
            self.assertIn(part, reached)
        for part in ("prompt", "send"):
            self.page.press("Tab")
            reached.append(self.page.evaluate("document.activeElement.id"))
            self.assertIn(part, reached)
        outline = self.page.evaluate("document.getElementById('prompt').focus(), getComputedStyle(document.getElementById('prompt')).outlineStyle")
        self.assertNotEqual(outline, "none")

    def test_the_playground_streams(self):
        self.open()
        self.page.evaluate("document.getElementById('max-tokens').value = '20'; document.getElementById('prompt').focus()")
        self.page.type("Tell me a story.")
        self.page.press("Enter")
        self.assertTrue(self.page.wait("/first token .* tokens\\/s .* tokens/.test(document.getElementById('speed').textContent.replace(/·/g, '')) && document.getElementById('stop').disabled", 60), self.page.evaluate("document.getElementById('speed').textContent"))
        self.assertGreater(self.page.evaluate("document.querySelectorAll('#log .turn')[1].textContent.length"), 10)
        self.assertEqual(self.page.troubles(), [])

    def test_what_models_and_servers_say_is_text(self):
        self.open()
        self.page.evaluate("showDiagnosis({...latest, verdict: {...latest.verdict, headline: '<img src=x onerror=\"window.hurt=1\"><b>x</b>', why_not: ['<i>y</i>']}})")
        self.assertEqual(self.page.evaluate("document.querySelectorAll('#diagnosis img, #headline b, #why-not i').length"), 0)
        self.assertIsNone(self.page.evaluate("window.hurt"))

    def test_dark_and_light_differ(self):
        colors = set()
        for scheme in ("light", "dark"):
            self.page.prefer(color_scheme=scheme)
            self.open()
            colors.add(self.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        self.assertEqual(len(colors), 2)


@unittest.skipUnless(browser.find(), "there is no Chromium")
class Keys(unittest.TestCase):
    def test_no_data_is_shown_until_a_key_is_typed(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder, "keys")
            keys.write_text("secret\n")
            running = common.Server(["--api-keys", str(keys)])
            page = browser.Browser()
            try:
                page.open(running.url + "/")
                self.assertTrue(page.wait("document.querySelector('#notice input')"))
                self.assertNotIn("optima-demo", page.evaluate("document.body.innerText"))
                self.assertEqual(page.evaluate("document.querySelectorAll('#tiles .tile').length"), 0)
                page.evaluate("document.querySelector('#notice input').focus()")
                page.type("secret")
                page.press("Enter")
                self.assertTrue(page.wait("document.getElementById('context').textContent.includes('optima-demo') || /measured yet/.test(document.getElementById('headline').textContent)"))
                self.assertFalse(page.evaluate("document.getElementById('forget').hidden"))
            finally:
                page.close()
                running.stop()

    def test_a_server_that_has_gone_is_said(self):
        running = common.Server([])
        page = browser.Browser()
        try:
            page.open(running.url + "/")
            page.wait("document.getElementById('state').textContent !== 'connecting'")
            running.stop()
            self.assertTrue(page.wait("document.getElementById('state').textContent === 'no answer'", 15))
            self.assertIn("does not answer", page.evaluate("document.getElementById('notice').textContent"))
        finally:
            page.close()
            running.stop()
