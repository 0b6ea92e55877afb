"""Expected tokens by Hugging Face's tokenizers: writes tokenizer_stages.json and tokenizer_real.json beside this file.

    python tests/golden/make_tokenizer.py [SHARED_DATA]      # pip install tokenizers==0.23.3

tokenizer_stages.json: small tokenizers that show one stage each. Their vocabulary tells the first character of a piece
from the others ("a" and "##a"), so that the ids show where pieces begin. tokenizer_real.json: ids of the real
tokenizers in the shared data folder. Ids of longer texts are given as a hash (see fnv1a).
"""

import json
import pathlib
import random
import sys
import unicodedata

from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
SHARED = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parents[2] / "shared" / "data"

SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
TEXTS = [
    "", " ", "  ", "a", " a", "a ", "Hello, world!  How're you?\n\nFine.\r\n", "I'LL we'Ve 'S 'ſ it'sn't '' 'x can't",
    "1 12 123 1234 12345 ½ ² Ⅷ ٣٤٥ 1,234.5", "\n\n \n  x", "x \n\n", " \t\n \t", "  \n  a  b   c", "a\r\nb\rc\n\rd",
    "  leading", "trailing  ", "tab\tand\u00a0nbsp\u3000wide", SPACES, "x".join(SPACES),
    "HTTPServer parseXMLFile iPhone McDonald ǅungla ABCdefGHI ΑΒΓδεζ ЖЖжж", "camelCase'll ABC's x'S",
    "日本語のテキスト、漢字とカナ。中文，测试！한국어 텍스트", "ああABCいい ABC漢字def", "مرحبا بالعالم ١٢٣", "שלום עולם",
    "नमस्ते दुनिया हिन्दी", "สวัสดีชาวโลก", "e\u0301a\u0308 \u0301x q\u0323\u0307 q\u0307\u0323 \u1100\u1161\u11a8 각",
    "👨\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 👍🏽 🇩🇪🇫🇷 1\ufe0f\u20e3", "\u200b\u200c\u200d\u2060\ufeff x",
    "a\x00b"[:1] + "\x01\x02\x1f\x7f\x80\x9f", "ﬁﬂ Ａｂ１ ㍿ ① ™ ｶﾞ ﾊﾟ Å Ω K ǰ ﷺ", "İstanbul ISPARTA ßẞ ΣΑΣ",
    "<|im_start|>user<|im_end|><s></s><unk>[INST] </INST>", "!!!???...,,,;;;---___***///\\\\\\@@@###$$$%%%^^^&&&",
    "price: $5+€3=£8~¥ a<b>c|d`e", "http://a.b/c?d=e&f=g#h", "/path/to/file.txt\n//comment\r\n/* x */",
    "def f(x):\n\treturn x  # c\n\n\n    if a == b:\n        pass\n", "{\"k\": [1, 2.5e-3, null]}", "_a_ __init__ a_b-c",
    "a" * 70, " " * 70, "ab" * 40, "\n" * 9, "0123456789" * 3, "…—–‘’“”«»„", "the The THE the the", "x  \ny \n\n z\n ",
]


def random_texts(n, seed):
    draw = random.Random(seed)
    pool = list("abcdeABCDE") + list("019٣½") + list(SPACES) + list("'.,!$<_-/") + list("éßſΣЖжǅʰ漢かカ한ㄱ\u0301\u0308\u093e\u3099\u200d👍ﬁ") + [
        "'s", "'LL", "  ", "\r\n", "the ", "Ab"]
    return ["".join(draw.choice(pool) for _ in range(draw.randrange(1, 40))) for _ in range(n)]


STAGE_TEXTS = TEXTS + random_texts(60, 1)

# ---- vocabularies that show where pieces begin ----


def byte_characters():
    shown = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    hidden = [b for b in range(256) if b not in shown]
    table = {b: chr(b) for b in shown}
    table.update({b: chr(256 + i) for i, b in enumerate(hidden)})
    return [table[b] for b in range(256)]


def text_characters():
    found = {"▁", "#"}
    for text in STAGE_TEXTS:
        for form in (text, *(unicodedata.normalize(f, text) for f in ("NFC", "NFD", "NFKC", "NFKD"))):
            found |= set(form) | set(form.lower()) | {c.lower()[:1] for c in form}
    return sorted(found - {""})


def revealing_model(characters):
    vocab = {"<unk>": 0}
    for c in characters:
        vocab[c] = len(vocab)
        vocab["##" + c] = len(vocab)
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": "##",
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": []}


# ---- stages ----

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACE_END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
FRONT = r"[^\r\n\p{L}\p{N}]?"
REGEXES = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt2 short": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": CONTRACTIONS + "|" + FRONT + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACE_END,
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
              r"|\s+(?!\S)|\s+",
    "classes for case": r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|" + FRONT +
                        r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACE_END,
    "qwen2": CONTRACTIONS + "|" + FRONT + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + SPACE_END,
    "qwen3.5": CONTRACTIONS + "|" + FRONT + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + SPACE_END,
    "tekken": FRONT + UPPER + "*" + LOWER + "+|" + FRONT + UPPER + "+" + LOWER + r"*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACE_END,
    "o200k": FRONT + UPPER + "*" + LOWER + "+" + CONTRACTIONS + "?|" + FRONT + UPPER + "+" + LOWER + "*" + CONTRACTIONS +
             r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + SPACE_END,
    "deepseek v3": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + SPACE_END,
    "up to 3 digits": r"\p{N}{1,3}", "digit": r"\p{N}", "digits": r"\p{N}+", "3 ASCII digits": "[0-9][0-9][0-9]",
    "newline": r"[\r\n]", "spaced letters": r"\s?\p{L}+", "spaced punctuation": r"\s?\p{P}+",
    "Han and kana": "[一-龥぀-ゟ゠-ヿ]+", "Han and Hangul": "[一-龥ࠀ-一가-퟿]+", "space at line end": r"\s+$",
    # Unknown to the product: these run on PCRE2.
    "unknown words": r"\p{Lu}\p{Ll}*|\d+|\p{Han}+|[^\s\p{L}]", "unknown line ends": r"(?<=a)b|^\s|x$", "unknown spaces": r"\s+(?=\S)|\S\S?",
}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def sequence(*stages):
    return {"type": "Sequence", "pretokenizers": list(stages)}


def pretokenizers():
    for name, regex in REGEXES.items():
        yield "regex " + name, "bytes", sequence(split(regex), BYTES)
    gpt2 = {**BYTES, "use_regex": True}
    yield "ByteLevel", "bytes", gpt2
    yield "ByteLevel with a space", "bytes", {**gpt2, "add_prefix_space": True}
    yield "ByteLevel of old files", "bytes", {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    digits = {"type": "Digits", "individual_digits": True}
    yield "SmolLM", "bytes", sequence(digits, gpt2)
    yield "Falcon", "bytes", sequence({"type": "Punctuation", "behavior": "Contiguous"}, gpt2,
                                      {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]"))
    yield "DeepSeek V3", "bytes", sequence(split(REGEXES["up to 3 digits"]), split(REGEXES["Han and kana"]),
                                           split(REGEXES["deepseek v3"]), BYTES)
    yield "DeepSeek Coder", "bytes", sequence(*(split(REGEXES[n]) for n in (
        "newline", "spaced letters", "spaced punctuation", "Han and Hangul")), digits, BYTES)
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        yield "Punctuation " + behavior, "text", {"type": "Punctuation", "behavior": behavior}
        for invert in (False, True):
            how = f"{behavior}{' inverted' if invert else ''}"
            yield "String " + how, "text", {"type": "Split", "pattern": {"String": "a"}, "behavior": behavior, "invert": invert}
            yield "one space " + how, "text", split(r"\s", behavior, invert)
            yield "words " + how, "text", split(r"\p{L}+", behavior, invert)
    yield "Digits", "text", {"type": "Digits", "individual_digits": False}
    yield "each digit", "text", digits
    yield "Whitespace", "text", {"type": "Whitespace"}
    yield "WhitespaceSplit", "text", {"type": "WhitespaceSplit"}
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            yield f"Metaspace {scheme} {cut}", "text", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
    yield "no pre-tokenizer", "text", None


def normalizers():
    for kind in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"):
        yield kind, {"type": kind}
    for left, right in ((True, True), (True, False), (False, True)):
        yield f"Strip {left} {right}", {"type": "Strip", "strip_left": left, "strip_right": right}
    yield "Prepend", {"type": "Prepend", "prepend": "▁"}
    yield "Replace", {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    yield "Replace by nothing", {"type": "Replace", "pattern": {"String": "a"}, "content": ""}
    yield "Replace Regex", {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    yield "Replace unknown Regex", {"type": "Replace", "pattern": {"Regex": " {2,}|[A-C]"}, "content": "x"}
    yield "Llama 2", {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    yield "accents away", {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}


def whole(model, normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None, added=()):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(added), "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model}


# ---- added tokens ----


def added(content, id, **flags):
    token = {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    return {**token, **flags}


ADDED_TEXTS = [
    "", "<a>", " <a> ", "x<a>y", "x <a>\n y", "<a><a>", "<a> <b> <c> <d>", "a<ab>b", "<a", "<<a>>", "<abc> <ab> <a>", "WORD word xword wordx word,word",
    "  <b>  <b>  ", "  <c>  <c>  ", "<c> \t\n<b>", "Shout SHOUT shout", "  ", "    ", "a    b", "<d>\u3000\u00a0<d>", "é<a>é", "<a>\u0301", "é word é",
    "\u0301word", "word\u0301", "_word_", "word_", "1word", "word½", "Ⓐword", "\u200dword",
]


def added_cases(base):
    n = len(base["vocab"])
    tokens = [
        added("<a>", n, special=True), added("<ab>", n + 1), added("<abc>", n + 2, special=True), added("<b>", n + 3, lstrip=True),
        added("<c>", n + 4, rstrip=True, special=True), added("<d>", n + 5, lstrip=True, rstrip=True), added("word", n + 6, single_word=True),
        added("Shout", n + 7, normalized=True), added("    ", n + 8), added("▁x", n + 9, normalized=True),
    ]
    plain = [
        ("added tokens", None, None), ("added tokens, lower case", {"type": "Lowercase"}, None),
        ("added tokens, Llama 2", {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}, None),
        ("added tokens, Metaspace first", None, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}),
        ("added tokens, NFC", {"type": "NFC"}, None),
    ]
    for name, normalizer, pre_tokenizer in plain:
        yield name, whole("text", normalizer, pre_tokenizer, added=tokens), ADDED_TEXTS


# ---- the model ----


def merging_model(seed, **options):
    """Random merges over a few letters; every merge joins tokens that exist, as training would."""
    draw = random.Random(seed)
    vocab = {"<unk>": 0}
    for c in ["a", "b", "c", "é", "漢", "▁"] + [f"<0x{b:02X}>" for b in range(256) if options.get("byte_fallback")]:
        vocab[c] = len(vocab)
    parts, merges = ["a", "b", "c", "é", "漢", "▁"], []
    while len(merges) < 60:
        left, right = draw.choice(parts), draw.choice(parts)
        if left + right in vocab or len(left + right) > 9:
            continue
        vocab[left + right] = len(vocab)
        merges.append([left, right] if options.get("pairs") else f"{left} {right}")
        parts.append(left + right)
    return {"type": "BPE", "dropout": None, "unk_token": options.get("unk_token"), "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": options.get("fuse_unk", False),
            "byte_fallback": options.get("byte_fallback", False), "ignore_merges": options.get("ignore_merges", False),
            "vocab": vocab, "merges": merges}


def affix_model(prefix, suffix):
    vocab = {"<unk>": 0}
    letters = "abc"
    for c in letters:
        for token in (c, prefix + c, c + suffix, prefix + c + suffix):
            vocab.setdefault(token, len(vocab))
    merges = []
    for left, right in (("a", prefix + "b"), (prefix + "b", prefix + "c"), ("a", prefix + "b" + suffix), ("ab", prefix + "c" + suffix)):
        vocab.setdefault(left + right[len(prefix):], len(vocab))
        merges.append([left, right])
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": prefix or None,
            "end_of_word_suffix": suffix or None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": merges}


def model_cases():
    draw = random.Random(7)
    texts = ["", "a", "x", "xx", "axxb", "é漢", "日本"] + [
        "".join(draw.choice("aaabbc" + extra) for _ in range(n)) for extra in ("", "é漢", "x日") for n in (3, 20, 47, 49, 50, 120, 700)]
    texts += ["a" * 300, "ab" * 200, "cba" * 101]
    variants = {
        "merges": {"unk_token": "<unk>"}, "merges as pairs": {"unk_token": "<unk>", "pairs": True}, "fused unknown": {"unk_token": "<unk>", "fuse_unk": True},
        "no unknown": {}, "byte fallback": {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True},
        "whole pieces first": {"unk_token": "<unk>", "ignore_merges": True},
    }
    for i, (name, options) in enumerate(variants.items()):
        for pre_tokenizer in (None, split("c")):
            yield f"{name}{', cut' if pre_tokenizer else ''}", whole(merging_model(i, **options), None, pre_tokenizer), texts
    cut = {"type": "WhitespaceSplit"}
    affixed = ["a", "ab", "abc", "abcabc", "abc abc", "b c a", "cab", "abx xa"]
    yield "prefix", whole(affix_model("##", ""), None, cut), affixed
    yield "suffix", whole(affix_model("", "</w>"), None, cut), affixed
    yield "prefix and suffix", whole(affix_model("##", "</w>"), None, cut), affixed


# ---- post-processors ----


def template(single, **tokens):
    return {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}} if s == "A" else {"SpecialToken": {"id": s, "type_id": 0}} for s in single],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {k: {"id": k, "ids": v, "tokens": [k] * len(v)} for k, v in tokens.items()}}


def postprocessor_cases():
    both = template(["x", "A", "y"], x=[1], y=[2, 3])
    yield "template", both
    yield "template of text alone", template(["A"])
    yield "sequence of processors", {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, both]}
    yield "RobertaProcessing", {"type": "RobertaProcessing", "sep": ["a", 1], "cls": ["b", 3], "trim_offsets": True, "add_prefix_space": False}
    yield "BertProcessing", {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 3]}


# ---- decoders ----


def decoder_cases():
    tokens = ["▁Hello", "▁", "▁▁x", "world", "Ġthe", "Ċ", "é", "ä½", "ł", "<0xE2>", "<0x82>", "<0xAC>", "<0x20>", "<0x0A>", "▁a▁b", " lead", "漢", "!", "<s>"]
    vocab = {t: i for i, t in enumerate(tokens)}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": []}
    id = vocab.__getitem__
    runs = [["▁Hello", "▁", "▁▁x", "world", "!"], ["<s>", "▁Hello"], ["▁▁x", "▁Hello"], ["<0x20>", "▁a▁b", "<0x0A>"], ["<0xE2>", "<0x82>", "<0xAC>", "!"],
            ["▁", "▁"], ["world", "▁", "▁"], [" lead", "▁Hello"], ["漢", "▁a▁b"], []]
    byte_runs = [["Ġthe", "Ċ", "world"], ["ä½", "ł", "!"], ["漢", "Ġthe"], ["<s>", "Ġthe"], [" lead"], []]
    replace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    chain = lambda *d: {"type": "Sequence", "decoders": list(d)}
    cases = [
        ("ByteLevel", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, byte_runs),
        ("Llama 2", chain(replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip), runs),
        ("Gemma", chain(replace, {"type": "ByteFallback"}, {"type": "Fuse"}), runs),
        ("strip two", chain(replace, {"type": "Fuse"}, {**strip, "start": 2}), runs),
        ("strip each", chain(replace, strip), runs), ("Replace Regex", {"type": "Replace", "pattern": {"Regex": "l+|▁"}, "content": "_"}, runs),
        ("Metaspace always", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}, runs),
        ("Metaspace never", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}, runs),
        ("no decoder", None, runs),
    ]
    special = [added("<s>", id("<s>"), special=True)]
    for name, decoder, lists in cases:
        yield name, whole(model, decoder=decoder, added=special), [[id(t) for t in run] for run in lists]


# ---- writing ----


def fnv1a(ids):
    """64 bits over the ids as little-endian 32-bit integers."""
    value = 0xCBF29CE484222325
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


def shorten(ids):
    return ids if len(ids) <= 8 else f"{fnv1a(ids):016x}"


def decoded_unless_same(built, ids, text):
    decoded = built.decode(ids, skip_special_tokens=False)
    return None if decoded == text else decoded



def case(name, tokenizer, texts, models, add_special=False):
    model = tokenizer["model"]
    built = Tokenizer.from_str(json.dumps({**tokenizer, "model": models[model] if isinstance(model, str) else model}))
    ids = [built.encode(t, add_special_tokens=add_special).ids for t in texts]
    return {"name": name, "tokenizer": tokenizer, "add_special": add_special, "ids": [shorten(i) for i in ids]}


def write_stages():
    models = {"bytes": revealing_model(byte_characters()), "text": revealing_model(text_characters())}
    lists = {"stages": STAGE_TEXTS, "added": ADDED_TEXTS}
    cases = []
    for name, model, pre_tokenizer in pretokenizers():
        cases.append({**case(name, whole(model, None, pre_tokenizer), STAGE_TEXTS, models), "texts": "stages"})
    for name, normalizer in normalizers():
        cases.append({**case("normalizer " + name, whole("text", normalizer), STAGE_TEXTS, models), "texts": "stages"})
    for name, tokenizer, texts in added_cases(models["text"]):
        cases.append({**case(name, tokenizer, texts, models), "texts": "added"})
    for name, tokenizer, texts in model_cases():
        cases.append({**case("model: " + name, tokenizer, texts, models), "texts": texts})
    for name, processor in postprocessor_cases():
        cases.append({**case(name, whole("text", post_processor=processor), ["", "ab"], models, True), "texts": ["", "ab"]})
    decodings = []
    for name, tokenizer, runs in decoder_cases():
        built = Tokenizer.from_str(json.dumps(tokenizer))
        texts = [[built.decode(run, skip_special_tokens=skip) for run in runs] for skip in (False, True)]
        decodings.append({"name": name, "tokenizer": tokenizer, "runs": runs, "texts": texts[0], "texts_without_special": texts[1]})
    write("tokenizer_stages.json", {"models": models, "texts": lists, "cases": cases, "decodings": decodings})


def write_real():
    folders = ["tokenizers/" + n for n in ("gpt2", "llama3", "mistral-7b-v0.3", "phi-3", "qwen2.5")] + ["models/stories260K/hf"]
    long_files = sorted(str(p.relative_to(SHARED)) for p in (SHARED / "text").rglob("*") if p.is_file() and p.suffix in (".txt", ".jsonl", ".tokens", ".raw"))
    real = {}
    for folder in folders:
        built = Tokenizer.from_file(str(SHARED / folder / "tokenizer.json"))
        hashes = {}
        for name in long_files:
            text = (SHARED / name).read_bytes().decode()[:400_000]
            ids = built.encode(text, add_special_tokens=False).ids
            hashes[name] = {"bytes": len(text.encode()), "count": len(ids), "hash": f"{fnv1a(ids):016x}"}
        ids = [built.encode(t, add_special_tokens=False).ids for t in STAGE_TEXTS]
        real[folder] = {"ids": [shorten(i) for i in ids], "decoded": [decoded_unless_same(built, i, t) for i, t in zip(ids, STAGE_TEXTS)], "long": hashes}
    write("tokenizer_real.json", {"texts": STAGE_TEXTS, "tokenizers": real})


def write(name, value):
    rows = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    (HERE / name).write_text(rows.replace(',{"name"', ',\n{"name"') + "\n")


write_stages()
if SHARED.is_dir():
    write_real()
