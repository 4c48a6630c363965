"""ByteTrack as its paper's program does it, written slowly and plainly, to hold ours to it.

It shares nothing with `yoloship.tracking`: one object for each track, whole 8×8 matrices, one step for each frame, and
the assignment of SciPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

HIGH, LOW, NEW = 0.5, 0.1, 0.6
Array = np.ndarray[Any, np.dtype[np.float64]]


class Track:
    """One object: its filter, and when it was seen."""

    def __init__(self, box: Array, frame: int, number: int) -> None:
        self.mean = np.concatenate([center(box), np.zeros(4)])
        height = self.mean[3]
        of_place, of_speed = 2 * height / 20, 10 * height / 160
        self.cov = np.diag([of_place, of_place, 1e-2, of_place, of_speed, of_speed, 1e-5, of_speed]) ** 2
        self.start = self.end = frame
        self.number, self.confirmed, self.lost = number, frame == 1, False

    def predict(self) -> None:
        """Go on by one frame."""
        if self.lost:
            self.mean[7] = 0
        height = self.mean[3]
        step = np.eye(8) + np.eye(8, k=4)
        noise = np.array([height / 20, height / 20, 1e-2, height / 20, height / 160, height / 160, 1e-5, height / 160])
        self.mean = step @ self.mean
        self.cov = step @ self.cov @ step.T + np.diag(noise**2)

    def update(self, box: Array, frame: int) -> None:
        """The object was found here."""
        height = self.mean[3]
        seen = np.eye(4, 8)
        noise = np.diag(np.array([height / 20, height / 20, 1e-1, height / 20]) ** 2)
        gain = self.cov @ seen.T @ np.linalg.inv(seen @ self.cov @ seen.T + noise)
        self.mean = self.mean + gain @ (center(box) - seen @ self.mean)
        self.cov = (np.eye(8) - gain @ seen) @ self.cov
        self.end, self.confirmed, self.lost = frame, True, False

    @property
    def box(self) -> Array:
        """Left, top, right, bottom."""
        x, y, ratio, height = self.mean[:4]
        left, top = x - ratio * height / 2, y - height / 2
        return np.array([left, top, left + ratio * height, top + height])


def center(box: Array) -> Array:
    """Centre, width divided by height, height."""
    width, height = box[2] - box[0], box[3] - box[1]
    return np.array([box[0] + width / 2, box[1] + height / 2, width / height, height])


def iou(one: Array, other: Array) -> float:
    """With sides that are one pixel longer."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


def assigned(costs: Array, limit: float) -> list[tuple[int, int]]:
    """The cheapest pairs, if it costs half of `limit` to leave a row or a column alone."""
    rows, columns = costs.shape
    whole = np.full((rows + columns, rows + columns), limit / 2)
    whole[:rows, :columns] = costs
    whole[rows:, columns:] = 0
    pairs = zip(*linear_sum_assignment(whole), strict=True)
    return [(int(row), int(column)) for row, column in pairs if row < rows and column < columns]


def costs_of(tracks: list[Track], boxes: list[Array], scores: list[float] | None) -> Array:
    """1 - IoU, or 1 - IoU times score."""
    costs = np.zeros((len(tracks), len(boxes)))
    for row, track in enumerate(tracks):
        for column, box in enumerate(boxes):
            costs[row, column] = 1 - iou(track.box, box) * (1 if scores is None else scores[column])
    return costs


class PlainTracker:
    """The program of the paper, frame by frame."""

    def __init__(self, rate: float) -> None:
        self.tracks: list[Track] = []
        self.frame = self.numbers = 0
        self.patience = int(rate / 30.0 * 30)

    def update(self, boxes: Array, scores: Array) -> list[int]:
        """The number of each detection's track; -1 if it has none, or one that is not confirmed."""
        self.frame += 1
        high = [i for i, score in enumerate(scores) if score > HIGH]
        low = [i for i, score in enumerate(scores) if LOW < score < HIGH]
        unconfirmed = [track for track in self.tracks if not track.confirmed]
        pool = [track for track in self.tracks if track.confirmed]
        for track in pool:
            track.predict()
        seen = [track for track in pool if not track.lost]
        taken = self.match(pool, high, boxes, scores, 0.8)
        left = [track for track in seen if track not in taken]
        taken |= self.match(left, low, boxes, None, 0.5)
        for track in pool:
            track.lost = track not in taken
        free = [i for i in high if i not in taken.values()]
        taken |= self.match(unconfirmed, free, boxes, scores, 0.7)
        gone = [track for track in unconfirmed if track not in taken]
        for i in high:
            if i not in taken.values() and scores[i] >= NEW:
                self.numbers += 1
                track = Track(boxes[i], self.frame, self.numbers)
                self.tracks.append(track)
                taken[track] = i
        gone += [track for track in self.tracks if track.lost and self.frame - track.end > self.patience]
        self.tracks = [track for track in self.tracks if track not in gone]
        self.drop_doubles()
        numbers = [-1] * len(scores)
        for track, i in taken.items():
            if track.confirmed and track in self.tracks:
                numbers[i] = track.number
        return numbers

    def match(
        self, tracks: list[Track], which: list[int], boxes: Array, scores: Array | None, limit: float
    ) -> dict[Track, int]:
        """Match, and update the tracks that were found."""
        weights = None if scores is None else [float(scores[i]) for i in which]
        costs = costs_of(tracks, [boxes[i] for i in which], weights)
        taken = {tracks[row]: which[column] for row, column in assigned(costs, limit)}
        for track, i in taken.items():
            track.update(boxes[i], self.frame)
        return taken

    def drop_doubles(self) -> None:
        """Of a seen and a lost track on top of each other, the younger goes."""
        drop = []
        for one in (track for track in self.tracks if not track.lost):
            for other in (track for track in self.tracks if track.lost):
                if iou(one.box, other.box) > 0.85:
                    older = one.end - one.start > other.end - other.start
                    drop.append(other if older else one)
        self.tracks = [track for track in self.tracks if track not in drop]
