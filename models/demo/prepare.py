"""Makes the training data of the demo model: cleans the corpus, renders conversations, trains the tokenizer, writes tokens.

    python prepare.py --corpus DIR --out DIR [--tokenizer]      books, service dialogues and stories from DIR
    python prepare.py --out DIR --generate N                    N documents of each kind by stories.py

DIR holds classic-books.tar.xz, sgd_dialogues.jsonl.xz and tinystories_1000.json. With --tokenizer, tokenizer.json beside
this file is trained anew; otherwise it is used as it is. For every source, OUT receives SOURCE.tokens.npy (uint16, all
documents, each ended by <|endoftext|>), SOURCE.offsets.npy (where each document starts, and the end) and the same for
SOURCE.heldout. A document is held out as a whole, chosen by a hash of its text, so that every run holds out the same.
"""
import argparse
import hashlib
import json
import lzma
import os
import re
import tarfile

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
N_VOCAB = 4096
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# The pattern of Qwen 2: words with their leading space, single digits, runs of other signs. Single digits make sums learnable.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
# Authors who wrote for children, or nearly as simply: the rest of the books is read at a lower weight.
SIMPLE = ["Aesop", "Beatrix Potter", "The Brothers Grimm", "Hans Christian Andersen", "L. Frank Baum", "Hugh Lofting",
          "Lewis Carroll", "Edith Nesbit", "Anna Sewell", "Johanna Spyri", "Kenneth Grahame", "Abbie Farwell Brown",
          "George MacDonald", "J. M. Barrie", "Frances Hodgson Burnett", "Lucy Maud Montgomery", "Louisa May Alcott"]
PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2026": "...", "\u00a0": " ",
                       "\u2014": " - ", "\u2013": "-", "\ufeff": "", "\t": " "})


def plain(text):
    text = text.translate(PLAIN).replace("--", " - ")
    return re.sub(r" {2,}", " ", text)


def mended(text):
    """Undoes UTF-8 that was once read as Windows-1252."""
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text


def book_sections(text):
    """A book without its title page, as sections of reflowed paragraphs."""
    text = text.split("-------", 1)[-1]
    for section in re.split(r"^#+ .*$", text, flags=re.M):
        paragraphs = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", section)]
        section = plain("\n\n".join(p for p in paragraphs if p)).replace("_", "").replace("*", "")
        if len(section) > 300:
            yield section.strip()


def books(corpus, simple):
    with tarfile.open(os.path.join(corpus, "classic-books.tar.xz")) as archive:
        for member in archive:
            author = member.name.split("/")[1] if member.isfile() else None
            if author and (author in SIMPLE) == simple:
                text = archive.extractfile(member).read().decode("utf-8", "replace")
                yield from book_sections(text)


def tiny_stories(corpus):
    with open(os.path.join(corpus, "tinystories_1000.json"), encoding="utf-8") as f:
        for story in json.load(f):
            yield re.sub(r" *\n\s*", "\n\n", plain(mended(story)).strip())


def chat(messages):
    """What chat_template.jinja renders, without a generation prompt."""
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)


def service_name(service):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", service.split("_")[0]).lower()


def service_dialogues(corpus):
    """A system message names the service, so that bookings stay out of other conversations."""
    with lzma.open(os.path.join(corpus, "sgd_dialogues.jsonl.xz"), "rt", encoding="utf-8") as f:
        for line in f:
            dialogue = json.loads(line)
            services = " and ".join(dict.fromkeys(map(service_name, dialogue["services"])))
            system = {"role": "system", "content": f"You help customers with these services: {services}."}
            yield plain(chat([system] + dialogue["messages"]))


def train_tokenizer(corpus):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=N_VOCAB, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())

    stories = list(tiny_stories(corpus)) * 4
    dialogues = [d for i, d in enumerate(service_dialogues(corpus)) if i % 32 == 0]
    simple_books = [b for i, b in enumerate(books(corpus, True)) if i % 6 == 0]
    tokenizer.train_from_iterator(stories + dialogues + simple_books, trainer)
    tokenizer.save(os.path.join(HERE, "tokenizer.json"))


def held_out(text, one_in):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") % one_in == 0


def write(out, source, texts, tokenizer, one_in):
    """Tokenises in batches; identical documents are kept once, so that nothing held out is also trained on."""
    end = tokenizer.token_to_id("<|endoftext|>")
    texts = list(dict.fromkeys(texts))
    for name, wanted in ((source, False), (source + ".heldout", True)):
        chosen = [t for t in texts if held_out(t, one_in) == wanted]
        ids = [e.ids + [end] for e in tokenizer.encode_batch(chosen, add_special_tokens=False)]
        offsets = np.cumsum([0] + [len(i) for i in ids])
        tokens = np.fromiter((i for document in ids for i in document), dtype=np.uint16, count=int(offsets[-1]))
        n_bytes = sum(len(t.encode()) for t in chosen)
        np.save(os.path.join(out, name + ".tokens.npy"), tokens)
        np.save(os.path.join(out, name + ".offsets.npy"), offsets)
        with open(os.path.join(out, name + ".json"), "w", encoding="utf-8") as f:
            json.dump({"documents": len(chosen), "tokens": int(offsets[-1]), "bytes": n_bytes}, f)
        print(f"{name}: {len(chosen)} documents, {offsets[-1]} tokens, {n_bytes / max(1, offsets[-1]):.2f} bytes a token", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus")
    parser.add_argument("--out", required=True)
    parser.add_argument("--tokenizer", action="store_true")
    parser.add_argument("--generate", type=int, default=0)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    if options.tokenizer:
        train_tokenizer(options.corpus)
    tokenizer = Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
    if options.corpus:
        write(options.out, "tiny", tiny_stories(options.corpus), tokenizer, 20)
        write(options.out, "service", service_dialogues(options.corpus), tokenizer, 100)
        write(options.out, "simple_books", books(options.corpus, True), tokenizer, 50)
        write(options.out, "books", books(options.corpus, False), tokenizer, 100)
    if options.generate:
        import stories
        made = {"stories": [], "chats": []}
        for kind, document in stories.documents(options.seed, options.generate):
            made[kind].append(document if isinstance(document, str) else chat(document))
        for source, texts in made.items():
            write(options.out, source, texts, tokenizer, 50)


if __name__ == "__main__":
    main()
