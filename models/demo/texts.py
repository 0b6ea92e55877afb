"""Writes texts of the demo model's sources: one of documents that it was trained on, one of documents held out.

    python texts.py --corpus DIR --out DIR [--bytes N] [--free]

CORPUS as for prepare.py. OUT receives calibration.txt and heldout.txt: of each source whole documents, the first ones in
its order whose bytes reach N (32,768), each ended by <|endoftext|>. What is held out is decided by prepare.py.
"""
import argparse
import os

import stories
from prepare import books, chat, held_out, service_dialogues, tiny_stories

N_GENERATED = 12000


def generated(kind):
    for made, document in stories.documents(7, N_GENERATED):
        if made == kind:
            yield document if isinstance(document, str) else chat(document)


def write(path, sources, n_bytes, wanted):
    with open(path, "w", encoding="utf-8") as f:
        for name, one_in, documents in sources:
            left, seen = n_bytes, set()
            for text in documents():
                if left <= 0:
                    break
                if text in seen or held_out(text, one_in) != wanted:
                    continue
                seen.add(text)
                f.write(text + "<|endoftext|>")
                left -= len(text.encode())
            print(f"{os.path.basename(path)}: {name}, {n_bytes - left} bytes in {len(seen)} documents", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--bytes", type=int, default=32768)
    parser.add_argument("--free", action="store_true")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    corpus = options.corpus
    sources = [("tiny", 20, lambda: tiny_stories(corpus)), ("stories", 50, lambda: generated("stories")),
               ("chats", 50, lambda: generated("chats")), ("simple_books", 50, lambda: books(corpus, True)),
               ("service", 100, lambda: service_dialogues(corpus)), ("books", 100, lambda: books(corpus, False))]
    if options.free:
        sources = [source for source in sources if source[0] not in ("tiny", "service")]
    for name, wanted in (("calibration", False), ("heldout", True)):
        write(os.path.join(options.out, name + ".txt"), sources, options.bytes, wanted)


if __name__ == "__main__":
    main()
