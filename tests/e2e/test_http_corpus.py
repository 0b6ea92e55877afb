"""The shared corpus of raw HTTP requests, valid and malformed, against the whole server."""

import unittest

import common
import http_corpus


class HttpCorpus(unittest.TestCase):
    def test_every_request_gets_what_it_must(self):
        if not http_corpus.CORPUS.is_dir():
            self.skipTest("the corpus is not here")
        self.assertEqual(http_corpus.failures("127.0.0.1", common.server().port), [])
