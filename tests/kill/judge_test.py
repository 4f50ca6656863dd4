#!/usr/bin/env python3
"""The judge of tests/kill sees what must never be, and complains of nothing else."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from judge import Judgement  # noqa: E402

GOOD = """
take z 0 0 0 0 - 0 -
start z 1 z
start a 1 a
start b 1 b
pass z 1 0 0 1 a
open a 1 1 z 1 z
take a 1 0 1 1 z 1 z
kill a program
dead a program
start a 2 a
pass z 1 0 0 2 a
open a 2 1 z 1 z
again a 2 0 1 2 z 1 z
gone z 1 0 0
pass a 2 0 1 1 b
take b 1 0 2 1 a 2 a
gone a 2 0 1
begin z 1 7 b 5000 0
hear b 1 z 1 7 5000 z
recv b 1 z 1 7 end 5000 5000
sent z 1 7 b ok 5000
"""
CUT = ("end 5000 5000", "cut 4000 5000")


def judged(text, apart_s=1.0):
    judgement = Judgement(["z", "a", "b"])
    for number, line in enumerate(line for line in text.strip().splitlines()):
        judgement.take_record(f"{100 + number * apart_s:.6f} {line}")
    return judgement.finish()


class TheJudge(unittest.TestCase):
    def finds(self, words, old, new):
        self.assertIn(old, GOOD)
        faults = judged(GOOD.replace(old, new, 1))
        self.assertTrue(any(words in fault for fault in faults), faults)

    def test_has_nothing_to_say_where_all_is_well(self):
        self.assertEqual(judged(GOOD), [])

    def test_finds_a_turn_that_is_lost(self):
        self.finds("2 is taken after 0", "take a 1 0 1 1 z 1 z\n", "")

    def test_finds_a_turn_that_is_taken_twice(self):
        self.finds("1 attempt 1 came twice", "take b 1 0 2 1 a 2 a\n", "take b 1 0 2 1 a 2 a\nagain b 1 0 2 1 a 2 a\n")

    def test_finds_two_who_have_one_value(self):
        self.finds("whose turn it is not", "gone a 2 0 1\n", "take z 1 0 2 1 a 2 a\n")

    def test_finds_an_attempt_that_nobody_made(self):
        self.finds("who never passed it", "again a 2 0 1 2 z 1 z", "again a 2 0 1 3 z 1 z")

    def test_finds_a_message_of_an_earlier_life_that_was_none(self):
        self.finds("who never passed it", "take b 1 0 2 1 a 2 a", "take b 1 0 2 1 a 1 a")

    def test_finds_two_lives_at_once(self):
        self.finds("is of life 1 of a, after one of 2", "begin z 1 7", "open b 1 1 a 2 a\nopen b 1 2 a 1 a\nbegin z 1 7")

    def test_finds_a_name_that_is_not_kept(self):
        self.finds("joined as a~2", "start a 2 a", "start a 2 a~2")

    def test_finds_what_was_confirmed_and_not_taken(self):
        self.finds("nobody has taken it", "take b 1 0 2 1 a 2 a\n", "")

    def test_finds_what_was_acknowledged_and_lost(self):
        self.finds("said to have arrived", "end 5000 5000", "ECONNRESET:5 4000 5000")

    def test_finds_a_stream_that_comes_twice(self):
        self.finds("came twice", "sent z 1 7", "hear b 1 z 1 7 5000 z\nsent z 1 7")

    def test_finds_a_reset_without_a_cause(self):
        self.finds("nobody was killed", "recv b 1 z 1 7 end 5000 5000\nsent z 1 7 b ok 5000", "recv b 1 z 1 7 ECONNRESET:5 4000 5000\nsent z 1 7 b ECONNRESET:5 4500")

    def test_finds_an_end_that_comes_early(self):
        self.finds("its program was not killed", *CUT)

    def test_lets_a_program_begin_much_before_it_is_killed_indeed(self):
        self.assertEqual(judged(GOOD.replace(*CUT).replace("begin z 1 7", "kill z program\nbegin z 1 7").replace("sent z 1 7 b ok 5000", "dead z program")), [])

    def test_finds_an_early_end_of_one_who_began_after_the_kill(self):
        self.finds("its program was not killed", "begin z 1 7 b 5000 0\nhear b 1 z 1 7 5000 z\nrecv b 1 z 1 7 end 5000 5000",
                   "kill z program\ndead z program\nstart z 2 z\nbegin z 2 7 b 5000 0\nhear b 1 z 2 7 5000 z\nrecv b 1 z 2 7 cut 4000 5000")

    def test_finds_an_error_that_is_not_documented(self):
        self.finds("EISCONN", "begin z 1 7", "fail z 1 connect a EISCONN 0\nbegin z 1 7")

    def test_finds_an_interruption_that_nobody_made(self):
        self.finds("EINTR", "begin z 1 7", "fail z 1 fclose mount EINTR 0\nbegin z 1 7")

    def test_tells_what_a_player_saw(self):
        self.finds("wrong at 77", "begin z 1 7", "BAD b 1 stream 6 of z 1: wrong at 77\nbegin z 1 7")


if __name__ == "__main__":
    unittest.main()
