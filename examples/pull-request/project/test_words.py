import unittest

import words


class Words(unittest.TestCase):
    def test_greet(self):
        self.assertEqual(words.greet("world"), "hello, world")
