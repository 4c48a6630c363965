"""Compares a model on a running server with the model here, picture by picture: `check_server`."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from yoloship._util.text import counted, tracked
from yoloship.detect.options import DetectOptions
from yoloship.errors import InputError, SessionError
from yoloship.evaluate.measures import measure_of
from yoloship.evaluate.verification import Side, Tolerances, Verification, judge
from yoloship.kinds import kind_of
from yoloship.kserve import Client, ProtocolError, RemoteError
from yoloship.models.loading import load
from yoloship.models.releases import resolve
from yoloship.tasks import task_of
from yoloship.triton.remote import describe, open_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from yoloship._util.text import OnProgress
    from yoloship.detect.detector import Detector
    from yoloship.evaluate.measure import Measure
    from yoloship.model import ModelInfo
    from yoloship.results import Result
    from yoloship.triton.remote import Remote

SHOWN: Final = 10
"""Pictures that differ, of which a report names so many."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Attributes:
        name: Its file.
        here: How many answers the model here gives.
        there: How many the server gives.
        agreement: The share of them that the other gives too.
    """

    name: str
    here: int
    there: int
    agreement: float


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """What came out.

    Attributes:
        server: The model on the server, for people.
        verification: All pictures together, and the verdicts.
        pictures: Each picture.
        here_ms: Median time of a picture on this machine.
        there_ms: Median time of a picture on the server, the way there and back included.
    """

    server: str
    verification: Verification
    pictures: tuple[Picture, ...]
    here_ms: float
    there_ms: float

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.verification.passed

    @property
    def differing(self) -> tuple[Picture, ...]:
        """Pictures on which the two do not agree, the worst first."""
        return tuple(sorted((one for one in self.pictures if one.agreement < 1), key=lambda one: one.agreement))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = self.verification
        return {
            "server": self.server,
            "passed": self.passed,
            "score_threshold": found.score_threshold,
            "agreement": {**asdict(found.agreement), "share": found.agreement.share},
            "checks": [{**asdict(check), "passed": check.passed} for check in found.checks],
            "here_ms": self.here_ms,
            "there_ms": self.there_ms,
            "pictures": [asdict(one) for one in self.pictures],
        }

    def facts(self) -> Iterator[tuple[str, str]]:
        """Name and value, line by line."""
        found = self.verification
        yield "A", f"{found.sides[0].name}: {self.here_ms:.1f} ms per image"
        yield "B", f"{self.server}: {self.there_ms:.1f} ms per image, including the way there and back"
        yield "pictures", str(len(self.pictures))
        yield from found.measure.counts(found.agreement, found.score_threshold)
        for detail in found.details:
            unit = detail.unit if detail.unit == "°" else f" {detail.unit}".rstrip()
            yield detail.name, f"{detail.mean:.4f}{unit} on average, {detail.worst:.4f}{unit} at worst"
        for one in self.differing[:SHOWN]:
            noun = found.measure.counted
            here, there = counted(one.here, *noun), counted(one.there, *noun)
            yield "differs", f"{one.name}: {here} here, {there} there, {one.agreement:.2f} in both"
        for check in found.checks:
            bound = "at least" if check.is_floor else "at most"
            yield (
                ("pass" if check.passed else "FAIL"),
                f"{check.name} {check.value:.4g}, allowed {bound} {check.limit:g}",
            )


@dataclass(frozen=True, slots=True)
class Expected:
    """The model that a server should have.

    Attributes:
        model: A file, or the name of a release.
        arguments: Further arguments of `yoloship.load`.
        score_threshold: From which on detections count; None takes the server's, else 0.25.
        tolerances: How much the two may differ.
    """

    model: str
    arguments: dict[str, Any]
    score_threshold: float | None = None
    tolerances: Tolerances = field(default_factory=Tolerances)


def check_server(
    client: Client, name: str, expected: Expected, images: Sequence[Path], *, on_progress: OnProgress | None = None
) -> ServerCheck:
    """Ask a server about each image, and compare its answers with those of the model here.

    Args:
        client: Of the server.
        name: Of the model on it.
        expected: The model that it should be.
        images: Image files.
        on_progress: Called before each image.

    Raises:
        InputError: there are no images, or the server has a model of another task, with other classes or of a size that
            the model here does not have.
        ImageError: an image cannot be read.
        RemoteError: the server cannot be reached, has no such model, or refuses an image.
        SessionError: an answer is wrong.
        YoloshipError: the model cannot be loaded.
    """
    if not images:
        raise InputError("no images to compare on", expected="at least one")
    with _local(client, name, expected) as local:
        remote = open_remote(client, name, local)
        measure = _common(local, remote, f"{client.url} {name}")
        threshold, here_options, there_options = _thresholds(local, remote, measure, expected.score_threshold)
        here: list[Result] = []
        there: list[Result] = []
        seconds: list[tuple[float, float]] = []
        for image in tracked(images, "comparing", on_progress):
            started = time.perf_counter()
            here.append(local(image, options=here_options))
            middle = time.perf_counter()
            there.append(_asked(remote, image, there_options))
            seconds.append((middle - started, time.perf_counter() - middle))
        compared = measure.compare(here, there, threshold)
        sides = tuple(
            Side(title, "", "float32", info.output_form, sum(measure.sees(one, threshold) for one in found), 0.0, 0.0)
            for title, info, found in ((expected.model, local.info, here), (remote.title, remote.info, there))
        )
        verification = Verification(
            (sides[0], sides[1]), len(images), threshold, (), compared.agreement, compared.ious, compared.scores,
            task=local.info.task, details=compared.details,
        )  # fmt: skip
    pictures = tuple(
        Picture(str(image), measure.sees(one, threshold), measure.sees(other, threshold),
                measure.compare([one], [other], threshold).agreement.share)
        for image, one, other in zip(images, here, there, strict=True)
    )  # fmt: skip
    times = [1e3 * statistics.median(one) for one in zip(*seconds, strict=True)]
    return ServerCheck(remote.title, judge(verification, expected.tolerances), pictures, times[0], times[1])


def _local(client: Client, name: str, expected: Expected) -> Detector:
    """The model here. A checkpoint takes the size that the server has, unless a size is asked for."""
    from yoloship.model import METADATA_KEY, ModelInfo

    served, arguments = describe(client, name), dict(expected.arguments)
    record = served.parameters.get(METADATA_KEY)
    if arguments.get("imgsz") is None and record is not None and kind_of(resolve(expected.model)) == "checkpoint":
        height, width = ModelInfo.from_json(record, subject=f"{client.url} {name}").input_hw
        if height is not None and width is not None:
            arguments["imgsz"] = (height, width)
    return load(expected.model, **arguments)


def _common(local: Detector, remote: Remote, subject: str) -> Measure:
    """How both are judged.

    Raises:
        InputError: they cannot be compared.
    """
    here, there = local.info, remote.info
    measure = measure_of(here, local.model_name)
    if here.task != there.task:
        raise InputError(
            "is a model of another task", subject=subject, expected=f"a {task_of(here, local.model_name).title}",
            got=f"a {task_of(there, subject).title}",
        )  # fmt: skip
    if not _same_classes(here, there):
        raise InputError(
            "has different classes", subject=subject, expected=_listed(here.class_names), got=_listed(there.class_names)
        )
    if here.keypoint_shape != there.keypoint_shape:
        raise InputError(
            "finds other keypoints", subject=subject, expected=str(here.keypoint_shape), got=str(there.keypoint_shape)
        )
    return measure


def _same_classes(here: ModelInfo, there: ModelInfo) -> bool:
    """A model without class names has their numbers instead, and contradicts no names."""
    numbers = tuple(map(str, range(len(here.class_names))))
    if here.class_names == there.class_names:
        return True
    return len(numbers) == len(there.class_names) and numbers in {here.class_names, there.class_names}


def _listed(names: Sequence[str], count: int = 6) -> str:
    shown = ", ".join(name[:40] for name in names[:count])
    return f"{counted(len(names), 'class', 'classes')}: {shown}{', …' if len(names) > count else ''}"


def _thresholds(
    local: Detector, remote: Remote, measure: Measure, asked: float | None
) -> tuple[float, DetectOptions, DetectOptions]:
    """The threshold from which on answers count, and the options of both sides, which show what is somewhat below."""
    said = remote.options
    if asked is not None and not measure.overlap_title:
        raise InputError("has no effect for a classification model", subject="--conf", hint="leave it out")
    inside = [info.nms.score_threshold for info in (local.info, remote.info) if info.nms is not None]
    usual = said.get("score_threshold") if isinstance(said.get("score_threshold"), float) else None
    threshold = asked if asked is not None else max([usual or DetectOptions().score_threshold, *inside])
    there = measure.options(cast("Any", _Described(remote.info)), threshold, other=local.info.nms)
    here = measure.options(local, threshold, other=remote.info.nms)
    changes = {name: said[name] for name in ("iou_threshold", "max_detections") if name in said}
    try:
        return threshold, replace(here, **changes), replace(there, **changes)
    except InputError as error:
        raise SessionError(f"its options are damaged: {error}", subject=remote.title) from error


@dataclass(frozen=True, slots=True)
class _Described:
    """What a measure asks of a detector."""

    info: ModelInfo


def _asked(remote: Remote, image: Path, options: DetectOptions) -> Result:
    """What the server finds. An error of the server names the picture and the server."""
    try:
        return remote.ask(image, options)
    except ProtocolError as error:
        raise SessionError(f"{image}: its answer is broken: {error}", subject=remote.title) from error
    except RemoteError as error:
        raise RemoteError(
            f"{image}: {error.problem}", status=error.status, subject=error.subject, hint=error.hint
        ) from error
