"""What is taken for what: every object and every detection is counted once, in every image."""

from __future__ import annotations

import numpy as np

from helpers.validated import BOX, FAR, NAMES, OTHER, found, sample
from yoloship.evaluate.coco import Scored, Truth
from yoloship.evaluate.evaluator import Match, evaluate
from yoloship.validate.confusion_matrix import confused_pairs, confusion_matrix, verdict

BACKGROUND = len(NAMES)


def case(*images: tuple[list[tuple[list[float], int]], Scored]) -> tuple[list[Scored], list[Truth], list[Match]]:
    truths = []
    for objects, _ in images:
        one = sample("a.jpg", [box for box, _ in objects], [class_id for _, class_id in objects]).truth
        assert one is not None
        truths.append(one)
    scored = [found_ for _, found_ in images]
    return scored, truths, evaluate(scored, truths, NAMES).matches()


def test_right_confused_missed_and_invented_have_their_cells() -> None:
    scored, truths, matches = case(
        ([(BOX, 0), (OTHER, 1)], found([BOX, OTHER, FAR], [0.9, 0.8, 0.7], [0, 2, 0])),
        ([(BOX, 1)], found([], [], [])),
        ([], found([FAR], [0.6], [1])),
    )
    matrix = confusion_matrix(scored, truths, matches, len(NAMES), 0.5)
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[2, 1] = expected[0, BACKGROUND] = expected[BACKGROUND, 1] = 1
    expected[1, BACKGROUND] = 1  # in an image without objects too
    assert matrix.tolist() == expected.tolist()
    assert matrix[:, :-1].sum() == 3  # every object once
    assert matrix[:-1].sum() == 4  # every detection once


def test_what_scores_less_does_not_count_and_its_object_is_missed() -> None:
    scored, truths, matches = case(([(BOX, 0)], found([BOX, FAR], [0.4, 0.3], [0, 1])))
    assert confusion_matrix(scored, truths, matches, len(NAMES), 0.5)[BACKGROUND, 0] == 1
    assert confusion_matrix(scored, truths, matches, len(NAMES), 0.5).sum() == 1
    at_its_score = confusion_matrix(scored, truths, matches, len(NAMES), float(np.float32(0.4)))
    assert at_its_score[0, 0] == at_its_score.sum() == 1


def test_the_diagonal_has_what_the_evaluator_calls_right() -> None:
    near = [10.0, 10, 29, 30]
    scored, truths, matches = case(([(BOX, 0)], found([BOX, near], [0.9, 0.8], [0, 0])))
    matrix = confusion_matrix(scored, truths, matches, len(NAMES), 0.1)
    right, wrong, missed = verdict(scored[0], matches[0], 0.1)
    assert (right.tolist(), wrong.tolist(), missed.tolist()) == ([0], [1], [])
    assert (matrix[0, 0], matrix[0, BACKGROUND]) == (1, 1)


def test_pairs_of_two_classes_are_the_largest_overlaps_first_and_each_once() -> None:
    shifted = [11.0, 10, 31, 30]
    scored, truths, matches = case(([(BOX, 0), (shifted, 0)], found([shifted, BOX, BOX], [0.9, 0.8, 0.7], [1, 1, 2])))
    pairs = confused_pairs(scored[0], truths[0], matches[0], 0.1)
    assert sorted(map(tuple, pairs.tolist())) == [(0, 1), (1, 0)]


def test_a_crowd_is_neither_missed_nor_confused() -> None:
    objects = Truth(np.array([BOX, OTHER]), np.array([0, 0]), crowd=np.array([True, False]))
    scored = [found([BOX, OTHER], [0.9, 0.8], [0, 0])]
    matrix = confusion_matrix(scored, [objects], evaluate(scored, [objects], NAMES).matches(), len(NAMES), 0.1)
    assert matrix[0, 0] == matrix.sum() == 1
