"""`optima quantize`: the folder is what compressed-tensors defines, a GGUF file becomes one, the report's divergences are
small, a failure leaves nothing."""

import json
import math
import pathlib
import resource
import signal
import struct
import subprocess
import tempfile
import time
import unittest

import common

DEMO = common.ROOT / "models" / "demo"
STORIES = common.SHARED / "data" / "models" / "stories260K"
ITEM_BYTES = {"I64": 8, "I32": 4, "F32": 4, "BF16": 2, "F16": 2, "I8": 1, "F8_E4M3": 1}


def run(*arguments, **options):
    command = [str(common.binary), "quantize", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=300, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def read_safetensors(path):
    """name -> (dtype, shape, bytes), held to the format: tensors without holes, aligned to their items."""
    data = path.read_bytes()
    (n_header,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + n_header])
    header.pop("__metadata__")
    tensors, at = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        assert begin == at and end - begin == ITEM_BYTES[entry["dtype"]] * math.prod(entry["shape"]), name
        assert (8 + n_header + begin) % ITEM_BYTES[entry["dtype"]] == 0, name
        tensors[name] = entry["dtype"], entry["shape"], data[8 + n_header + begin : 8 + n_header + end]
        at = end
    assert 8 + n_header + at == len(data)
    return tensors


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def bf16(data):
    return struct.unpack(f"<{len(data) // 2}f", b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2)))


def e4m3(byte):
    exponent, mantissa = byte >> 3 & 15, byte & 7
    value = (1 + mantissa / 8) * 2.0 ** (exponent - 7) if exponent else mantissa / 8 * 2.0**-6
    return -value if byte & 128 else value


def decode(tensors, name, n_rows=16):
    """The first rows of a quantised matrix, by the definitions of compressed-tensors alone."""
    _, (rows, groups), scales = tensors[name + "_scale"]
    scales = bf16(scales)
    if name + "_packed" in tensors:
        dtype, (_, words), data = tensors[name + "_packed"]
        shape = struct.unpack("<2q", tensors[name + "_shape"][2])
        assert dtype == "I32" and shape[0] == rows
        bits = 32 * words // shape[1]
        packed = struct.unpack(f"<{rows * words}I", data)
        numbers = [
            (packed[i * bits // 32] >> (i * bits % 32) & (1 << bits) - 1) - (1 << bits - 1)
            for i in range(n_rows * shape[1])
        ]
        n_in = shape[1]
    else:
        dtype, (_, n_in), data = tensors[name]
        data = data[: n_rows * n_in]
        numbers = [e4m3(byte) for byte in data] if dtype == "F8_E4M3" else struct.unpack(f"<{len(data)}b", data)
    group = n_in // groups
    return [number * scales[i // n_in * groups + i % n_in // group] for i, number in enumerate(numbers)]


class Quantize(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.original = read_safetensors(DEMO / "model.safetensors")

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.text = self.folder / "text"
        self.text.write_text((DEMO / "heldout.txt").read_text()[:12000])

    def quantize(self, name, *arguments, model="demo"):
        out = self.folder / name
        status, printed, err = run(model, out, *arguments, "--eval-tokens", "512", "--json")
        self.assertEqual((status, err), (0, ""))
        return out, json.loads(printed)

    @common.sees_no_threads
    def test_folders_follow_compressed_tensors(self):
        names = [name for name in self.original if "_proj.weight" in name]
        self.assertEqual(len(names), 49)
        cases = [
            ("int4", [], "pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 32}, 0.12, 2e-2),
            ("int8", [], "int-quantized", {"num_bits": 8, "strategy": "channel", "group_size": None}, 0.02, 1e-3),
            ("int8", ["--group", "64"], "pack-quantized", {"num_bits": 8, "group_size": 64}, 0.02, 1e-3),
            ("fp8", [], "float-quantized", {"num_bits": 8, "strategy": "channel", "type": "float"}, 0.04, 5e-3),
        ]
        for weights, options, form, expected, error_max, divergence_max in cases:
            out, report = self.quantize("-".join([weights, form]), "--weights", weights, *options)
            config = json.loads((out / "config.json").read_text())
            quantization = config.pop("quantization_config")
            self.assertEqual(config, json.loads((DEMO / "config.json").read_text()))
            self.assertEqual((quantization["quant_method"], quantization["format"]), ("compressed-tensors", form))
            self.assertEqual(quantization["ignore"], ["lm_head"])
            group = quantization["config_groups"]["group_0"]
            self.assertEqual(group["targets"], ["Linear"])
            self.assertEqual({key: group["weights"][key] for key in expected}, expected)
            for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
                self.assertEqual((out / name).read_bytes(), (DEMO / name).read_bytes())
            tensors = read_safetensors(out / "model.safetensors")
            for name in self.original:
                if name not in names:
                    self.assertEqual(tensors[name], self.original[name])
            for name in names[:3]:
                values = decode(tensors, name)
                exact = bf16(self.original[name][2][: 2 * len(values)])
                off = sum((a - b) ** 2 for a, b in zip(values, exact)) / sum(b * b for b in exact)
                self.assertLess(off**0.5, error_max, (name, weights))
            self.assertLess(report["divergence"]["mean"], divergence_max)
            self.assertGreater(report["divergence"]["mean"], 0)
            self.assertTrue(report["good"])
            self.assertEqual((report["matrices"], report["matrices_left"]), (49, 0))
            self.assertTrue(0 < report["worst"][0]["error"] < error_max, report["worst"])

    def test_gguf_files_stay_gguf_files(self):
        if not STORIES.exists():
            self.skipTest("there is no ../shared")
        for name, weights, most in (("f32", "int8", 1e-3), ("f16", "int4", 0.2)):
            out, report = self.quantize(f"{name}.gguf", "--weights", weights, "--eval", self.text,
                                        model=STORIES / f"stories260K.{name}.gguf")
            self.assertEqual(out.read_bytes()[:4], b"GGUF")
            self.assertTrue(0 < report["divergence"]["mean"] < most, report)
            self.assertEqual((report["matrices"], report["matrices_left"]), (30, 5))

    @common.sees_no_threads
    def test_calibration_is_better_than_searching_and_that_than_rounding(self):
        calibrate = self.folder / "calibrate"
        calibrate.write_text((DEMO / "heldout.txt").read_text()[12000:])
        methods = (["--nearest"], [], ["--calibrate", calibrate])
        found = [self.quantize(f"out{i}", "--weights", "int4", "--eval", self.text, *options)[1]
                 for i, options in enumerate(methods)]
        nearest, searched, calibrated = (report["divergence"]["mean"] for report in found)
        self.assertTrue(calibrated < 0.8 * searched < searched < nearest, (calibrated, searched, nearest))
        self.assertLess(found[2]["worst"][0]["error"], found[1]["worst"][0]["error"])

    @common.sees_no_threads
    def test_the_last_tenth_of_a_text_is_for_the_report(self):
        out = self.folder / "out"
        status, printed, err = run("demo", out, "--weights", "int8", "--calibrate", self.text)
        self.assertEqual((status, err), (0, ""))
        for words in ("the last tenth of", "calibrated with", "verdict     good", "worst"):
            self.assertIn(words, printed)

    def test_shards_stay_shards(self):
        model = self.folder / "sharded"
        model.mkdir()
        for name in ("config.json", "tokenizer.json"):
            (model / name).write_bytes((DEMO / name).read_bytes())
        names = sorted(self.original)
        places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
        for file in set(places.values()):
            write_safetensors(model / file, {name: self.original[name] for name in names if places[name] == file})
        (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
        out, _ = self.quantize("out", "--weights", "fp8", "--eval", self.text, model=model)
        index = json.loads((out / "model.safetensors.index.json").read_text())
        tensors = {file: read_safetensors(out / file) for file in set(places.values())}
        self.assertEqual({name: file for file in tensors for name in tensors[file]}, index["weight_map"])
        self.assertLessEqual(places.items(), index["weight_map"].items())
        n_bytes = sum(len(tensor[2]) for file in tensors.values() for tensor in file.values())
        self.assertEqual(index["metadata"]["total_size"], n_bytes)

    def test_failures_leave_no_folder(self):
        out = self.folder / "out"

        def few_bytes():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        status, _, err = run("demo", out, "--weights", "int4", preexec_fn=few_bytes, restore_signals=False)
        self.assertNotEqual(status, 0)
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertIn("model.safetensors", err)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["text"])
        process = subprocess.Popen([str(common.binary), "quantize", "demo", str(out), "--weights", "int4",
                                    "--calibrate", str(self.text)], stdout=subprocess.DEVNULL)
        time.sleep(0.2)
        process.kill()
        process.wait()
        self.assertFalse(out.exists())

    def test_bad_input_is_one_line(self):
        out, empty = self.folder / "out", self.folder / "empty"
        empty.write_text("")
        cases = [
            ([], "PATH"),
            (["demo"], "OUT"),
            (["demo", out], "--weights"),
            (["demo", out, "--weights", "int3"], "--weights"),
            (["demo", self.folder, "--weights", "int4"], "exists"),
            (["demo", self.text, "--weights", "int4"], "exists"),
            (["demo", "/nothing/out", "--weights", "int4"], "/nothing"),
            (["/nothing", out, "--weights", "int4"], "/nothing"),
            (["demo", out, "--weights", "int4", "--group", "48"], "--group"),
            (["demo", out, "--weights", "fp8", "--group", "32"], "fp8"),
            (["demo", out, "--weights", "int4", "--nearest", "--calibrate", self.text], "--nearest"),
            (["demo", out, "--weights", "int4", "--calibrate", empty], "tokens"),
            (["demo", out, "--weights", "int4", "--calibrate", "/nothing"], "/nothing"),
            (["demo", out, "--weights", "int4", "--eval", "/nothing"], "/nothing"),
            (["demo", out, "--weights", "int4", "--eval", empty], "tokens"),
        ]
        if STORIES.exists():
            cut = self.folder / "cut.gguf"
            cut.write_bytes((STORIES / "stories260K.f16.gguf").read_bytes()[:100000])
            cases += [([cut, out, "--weights", "int4", "--eval", self.text], "cut.gguf")]
            cases += [([STORIES / "hf", out, "--weights", "int4"], "--eval"),
                      ([STORIES / "stories260K.q8_0.gguf", out, "--weights", "int4", "--eval", self.text], "int8 already"),
                      ([STORIES / "stories260K.f16.gguf", out, "--weights", "fp8", "--eval", self.text], "GGUF"),
                      ([STORIES / "stories260K.f16.gguf", out, "--weights", "int8", "--group", "64"], "--group")]
        for arguments, mention in cases:
            status, printed, err = run(*arguments)
            self.assertNotEqual(status, 0, arguments)
            self.assertEqual(printed, "", arguments)
            self.assertEqual(len(err.splitlines()), 1, err)
            self.assertIn(mention, err)
            self.assertFalse(out.exists(), arguments)
