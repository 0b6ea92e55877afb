"""Makes docs/dashboard.png: the dashboard of a server under load, in a headless Chromium. On a machine that has nothing
else to do.

    python3 docs/dashboard_picture.py build/optima docs/dashboard.png
"""

import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "e2e"))
import browser  # noqa: E402
import common  # noqa: E402

LOAD_S, WIDTH, HEIGHT = 45, 1280, 1000
SERVER = ["--sequences", "2", "--price-per-hour", "0.40", "--slo", "itl=20ms,ttft=500ms", "--self-tune", "suggest",
          "--log-level", "warning"]


def ask(running, client, ends):
    n = 0
    while not ends.is_set():
        n += 1
        prompt = "Once upon a time there was a cat. " * (2 + client) + f"Day {n}."
        common.post(running, "/v1/completions", {"prompt": prompt, "max_tokens": 40 + 30 * client, "seed": n})


def main():
    common.binary = pathlib.Path(sys.argv[1]).resolve()
    running, ends = common.Server(SERVER), threading.Event()
    time.sleep(6)  # an idle second, in which the peaks are measured
    for client in range(6):
        threading.Thread(target=ask, args=(running, client, ends), daemon=True).start()
    time.sleep(LOAD_S)
    page = browser.Browser(WIDTH, HEIGHT)
    page.open(running.url + "/")
    page.wait("document.querySelectorAll('.finding').length && !document.getElementById('charts').hidden")
    page.picture(sys.argv[2], (0, 0, WIDTH, HEIGHT))
    page.close()
    ends.set()
    running.stop()


if __name__ == "__main__":
    main()
