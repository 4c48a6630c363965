"""Scenes of moving boxes with their truth, and how well ids follow it: `SCENES`, `scene`, `identity_f1`, `id_switches`.

A scene has a detector's faults: boxes tremble, scores fall when an object is partly hidden, objects are missed, others
are invented; and a video's: frames are dropped, and times are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 1280, 720
INVENTED = -1
"""The truth of a detection of nothing."""


class Seen(NamedTuple):
    """One frame: its time, and what a detector gives, best first."""

    time_s: float
    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]
    """(n,): the object of each detection; `INVENTED` for none."""
    visible: frozenset[int]
    """The objects that are in the picture, found or not."""


@dataclass(frozen=True)
class Scene:
    """How a scene is made.

    Attributes:
        objects: How many there are.
        frames: How many there are before some are dropped.
        rate: Frames in a second.
        tremble: Deviation of the edges of a detection, as a share of the object's height.
        missed: Share of the detections that are missed.
        missed_at: (first frame, frames) of gaps in which nothing at all is detected.
        dropped_at: (first frame, frames) of gaps in which there are no frames.
        dropped: Share of the other frames that are dropped.
        invented: Mean number of detections of nothing in a frame.
        low: Share of the time in which an object's score is low.
        jitter_s: Deviation of the times of frames; the picture is that of the true time.
        digits: Decimal places of the times; None leaves them as they are.
        speed: Pixels in a second of the fastest object.
        lanes: Whether objects move straight, each in a lane of its own, without meeting.
        seed: Of all that is random.
    """

    objects: int = 8
    frames: int = 120
    rate: float = 25.0
    tremble: float = 0.01
    missed: float = 0.03
    missed_at: tuple[tuple[int, int], ...] = ()
    dropped_at: tuple[tuple[int, int], ...] = ()
    dropped: float = 0.0
    invented: float = 0.2
    low: float = 0.15
    jitter_s: float = 0.0
    digits: int | None = None
    speed: float = 220.0
    lanes: bool = False
    seed: int = 1
    sizes: tuple[float, float] = field(default=(60.0, 160.0))

    def make(self) -> list[Seen]:
        """The frames of the scene."""
        rng = np.random.default_rng(self.seed)
        n = self.objects
        height = rng.uniform(*self.sizes, n)
        width = height * rng.uniform(0.4, 0.9, n)
        start = rng.uniform((0, 0), (WIDTH, HEIGHT), (n, 2))
        velocity = rng.uniform(0.3, 1, (n, 1)) * self.speed * _directions(rng, n)
        if self.lanes:
            start = np.stack([rng.uniform(0, WIDTH, n), (np.arange(n) + 0.5) * HEIGHT / n], axis=1)
            velocity = np.stack([rng.uniform(0.5, 1, n) * self.speed * rng.choice([-1, 1], n), np.zeros(n)], axis=1)
            height = np.minimum(height, 0.7 * HEIGHT / n)
            width = height * 0.8
        sway, phase = rng.uniform(0, 0 if self.lanes else 12, n), rng.uniform(0, 6.28, n)
        times = np.arange(self.frames) / self.rate + rng.normal(0, 1, self.frames) * self.jitter_s
        times = np.maximum.accumulate(times - min(0.0, times[0]))
        gone = _gaps(self.dropped_at, self.frames) | (rng.random(self.frames) < self.dropped)
        blind = _gaps(self.missed_at, self.frames)
        frames = []
        for index, time_s in enumerate(times.tolist()):
            way = start + velocity * time_s + sway[:, None] * np.sin(2 * time_s + phase)[:, None]
            centre = _bounced(way, np.array([WIDTH, HEIGHT], float))
            grown = height * (1 + 0.1 * np.sin(time_s + phase))
            size = np.stack([width * grown / height, grown], axis=1)
            boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
            boxes += rng.normal(0, 1, (n, 4)) * self.tremble * grown[:, None]
            scores = np.where(
                (np.sin(1.3 * time_s + 9 * phase) > 1 - 2 * self.low),
                rng.uniform(0.15, 0.55, n),
                rng.uniform(0.72, 0.97, n),
            )
            found = (rng.random(n) >= self.missed) & ~blind[index]
            noise = rng.poisson(self.invented) * (not blind[index])
            corner = rng.uniform((0, 0), (WIDTH - 60, HEIGHT - 90), (noise, 2))
            noisy = np.concatenate([corner, corner + rng.uniform(30, 90, (noise, 2))], axis=1)
            all_boxes = np.concatenate([boxes[found], noisy])
            all_scores = np.concatenate([scores[found], rng.uniform(0.12, 0.68, noise)])
            truth = np.concatenate([np.flatnonzero(found), np.full(noise, INVENTED)]).astype(np.int64)
            if gone[index]:
                continue
            order = np.argsort(-all_scores, kind="stable")
            given = time_s if self.digits is None else round(time_s, self.digits)
            all_boxes = np.clip(all_boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
            all_boxes = np.round(all_boxes * 4) / 4
            all_scores = np.round(all_scores, 3) + 0.0003  # no score is a threshold: programs differ in that
            frames.append(
                Seen(
                    given, all_boxes[order].astype(np.float32), all_scores[order].astype(np.float32), truth[order],
                    frozenset(range(n)),
                )
            )  # fmt: skip
        return frames


SCENES = {
    "crossing": Scene(seed=1),
    "crowd": Scene(objects=60, frames=70, missed=0.08, invented=2, sizes=(40, 110), seed=2),
    "low scores": Scene(objects=12, low=0.6, missed=0.1, frames=150, seed=3),
    "dropped frames": Scene(rate=30, dropped_at=((20, 7), (50, 7), (90, 12)), frames=130, invented=0, seed=4),
    "variable rate": Scene(rate=30, jitter_s=0.012, dropped=0.25, frames=160, digits=3, seed=5),
    "missed for long": Scene(missed_at=((30, 7), (60, 19), (100, 29)), frames=160, missed=0.02, seed=6),
    "rounded clock": Scene(rate=29.97, digits=3, frames=90, objects=20, seed=7),
}
"""Name → scene."""


def identity_f1(frames: list[Seen], ids: list[list[int]]) -> float:
    """IDF1: how much of all boxes has the right id, if each id stands for the object that it follows most.

    Args:
        frames: With the truth.
        ids: The id of each detection in each frame; below 0 for none.

    Source: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016. An
    object that was not detected counts as missed; whether a box is right is known, because detections name their truth.
    """
    from yoloship.tracking.assignment import best_pairs

    pairs: dict[tuple[int, int], int] = {}
    given = 0
    for frame, found in zip(frames, ids, strict=True):
        for truth, one in zip(frame.truth.tolist(), found, strict=True):
            given += one >= 0
            if one >= 0 and truth != INVENTED:
                pairs[truth, one] = pairs.get((truth, one), 0) + 1
    wanted = sum(len(frame.visible) for frame in frames)
    truths, numbers = sorted({t for t, _ in pairs}), sorted({i for _, i in pairs})
    table = np.zeros((len(truths), len(numbers)))
    for (truth, one), count in pairs.items():
        table[truths.index(truth), numbers.index(one)] = count
    right = table[best_pairs(table)].sum()
    return float(2 * right / (given + wanted))


def id_switches(frames: list[Seen], ids: list[list[int]]) -> int:
    """How often an object gets another id than the one it had before."""
    last: dict[int, int] = {}
    switches = 0
    for frame, found in zip(frames, ids, strict=True):
        for truth, one in zip(frame.truth.tolist(), found, strict=True):
            if one >= 0 and truth != INVENTED:
                switches += last.get(truth, one) != one
                last[truth] = one
    return switches


def _directions(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _gaps(places: tuple[tuple[int, int], ...], count: int) -> npt.NDArray[np.bool_]:
    gap = np.zeros(count, np.bool_)
    for first, length in places:
        gap[first : first + length] = True
    return gap


def _bounced(way: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Places that move inside the picture and turn round at its edges."""
    folded = np.mod(way, 2 * size)
    return np.asarray(np.where(folded > size, 2 * size - folded, folded))
