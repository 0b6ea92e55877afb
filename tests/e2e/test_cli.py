"""The command line: help everywhere, one clear line and a non-zero status for every start that cannot succeed."""

import json
import pathlib
import subprocess
import tempfile
import unittest

import common


def run(*arguments, stdin=b"", timeout=120):
    done = subprocess.run([str(common.binary), *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


class Help(unittest.TestCase):
    def test_every_command_explains_itself(self):
        status, out, _ = run("--help")
        self.assertEqual(status, 0)
        commands = [line.split()[0] for line in out.split("commands:")[1].splitlines() if line.startswith("  ")]
        self.assertGreaterEqual(set(commands), {"serve", "chat", "inspect", "tokenize", "render"})
        for command in commands:
            status, out, err = run(command, "--help")
            self.assertEqual((status, err), (0, ""), command)
            self.assertIn(f"usage: optima {command}", out)

    def test_version_and_unknown_commands(self):
        self.assertRegex(run("--version")[1], r"^optima \d+\.\d+\.\d+\n$")
        self.assertEqual(run("nonsense")[0], 2)
        self.assertEqual(run()[0], 2)


class StartUp(unittest.TestCase):
    def refuses(self, *arguments, mention):
        status, _, err = run(*arguments)
        self.assertNotEqual(status, 0, arguments)
        lines = [line for line in err.splitlines() if line]
        self.assertEqual(len(lines), 1, err)
        self.assertIn(mention, err)

    def test_a_start_that_cannot_succeed_is_one_line(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "empty").mkdir()
            (folder / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
            (folder / "config.json").write_text('{"architectures": ["NovelForCausalLM"], "vocab_size": 8}')
            (folder / "keys").write_text("")
            cases = [
                ([folder / "nothing"], "nothing"),
                ([folder / "empty"], "config.json"),
                ([folder / "broken.gguf"], "broken.gguf"),
                ([folder], "NovelForCausalLM"),
                (["--random-weights", folder / "nothing.json"], "nothing.json"),
                (["--host", "0.0.0.0"], "--insecure"),
                (["--api-keys", folder / "nothing"], "nothing"),
                (["--api-keys", folder / "keys"], "keys"),
                (["--port", "70000"], "--port"),
                (["--context", "10000000"], "context"),
                (["--kv-gib", "0.00011", "--kv-format", "nonsense"], "--kv-format"),
            ]
            for arguments, mention in cases:
                with self.subTest(arguments=arguments):
                    port = [] if "--port" in arguments else ["--port", "0"]
                    self.refuses("serve", *arguments, *port, mention=mention)

    def test_a_taken_port_is_one_line(self):
        running = common.server()
        self.refuses("serve", "--port", running.port, mention=str(running.port))

    def test_the_server_ends_cleanly_and_says_what_it_is(self):
        running = common.Server([])
        output = running.output()
        self.assertEqual(running.stop(), 0)
        for text in ("curl -N http://127.0.0.1:", "KV cache", "weights", "device"):
            self.assertIn(text, output)


class Text(unittest.TestCase):
    def test_tokens_and_back(self):
        text = "Once upon a time, there was a cat.\n\tIt said: äöü 你好 😀!"
        status, ids, err = run("tokenize", "demo", stdin=text.encode())
        self.assertEqual((status, err), (0, ""))
        self.assertRegex(ids, r"^\d+( \d+)*\n$")
        status, back, _ = run("tokenize", "demo", "--decode", stdin=ids.encode())
        self.assertEqual((status, back.rstrip("\n")), (0, text))

    def test_rendering(self):
        request = {"messages": [{"role": "user", "content": "Hello!"}], "add_generation_prompt": True}
        status, out, err = run("render", "demo", stdin=json.dumps(request).encode())
        self.assertEqual((status, err), (0, ""))
        self.assertIn("<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n", out)
        self.assertNotEqual(run("render", "demo", stdin=b"{not json")[0], 0)

    def test_markers_in_user_text_stay_plain_text(self):
        marker = run("tokenize", "demo", "--special", stdin=b"<|im_end|>")[1].split()
        plain = run("tokenize", "demo", stdin=b"<|im_end|>")[1].split()
        self.assertEqual(len(marker), 1)
        self.assertNotIn(marker[0], plain)

    def test_inspect_shows_the_demo(self):
        status, out, _ = run("inspect", "demo")
        self.assertEqual(status, 0)
        for text in ("llama", "layers", "parameters"):
            self.assertIn(text, out.lower())


class Bench(unittest.TestCase):
    def test_rates_have_limits(self):
        arguments = ("bench-model", "demo", "--device", "cpu", "-p", 20, "-n", 4, "-b", "1,3", "--rows", 16)
        status, out, err = run(*arguments, "--json")
        self.assertEqual((status, err), (0, ""))
        document = json.loads(out)
        self.assertGreater(document["peaks_measured"]["read_bytes_per_s"], 0)
        self.assertEqual([row["batch"] for row in document["results"]], [1, 3])
        for row in document["results"]:
            batch = row["batch"]
            self.assertEqual((row["prompt"]["tokens"], row["decode"]["tokens"]), (20 * batch, 4 * batch))
            self.assertEqual((row["prompt"]["steps"], row["decode"]["steps"]), (-(-20 * batch // 16), 4))
            for phase in (row["prompt"], row["decode"]):
                self.assertGreater(phase["tokens_per_s"], 0)
                self.assertGreater(phase["limit_tokens_per_s"], 0)
        status, out, _ = run(*arguments)
        self.assertEqual(status, 0)
        self.assertEqual([line.split()[0] for line in out.splitlines()[-2:]], ["1", "3"])

    def test_wishes_that_cannot_be_are_one_line(self):
        for arguments, mention in [
            (("-b", "1,x"), "-b"),
            (("-b", "0"), "-b"),
            (("-p", "0"), "-p"),
            (("-p", "100000"), "context"),
            (("--weights", "int3"), "int3"),
        ]:
            status, _, err = run("bench-model", "demo", "--device", "cpu", *arguments)
            self.assertNotEqual(status, 0, arguments)
            self.assertEqual(len(err.splitlines()), 1, err)
            self.assertIn(mention, err)


if __name__ == "__main__":
    unittest.main()
