"""The tests of the check of JPEGs, for a GPU and for its stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers.damaged_jpegs import END, Jpegs, host_takes
from yoloship.cuda.jpeg_check import CHUNK_RESULT_BYTES, TAIL, CheckMemory, launch_jpeg_check, pack_scans
from yoloship.cuda.jpeg_scan import scan_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helpers.cuda_steps import Rig

MUST_BE_FAST = {"sound", "padded with zeros", "more behind the end"}
"""What the host takes and the check has to take too, so that it does not take the slow way."""


def verdicts(rig: Rig, files: Sequence[bytes]) -> list[bool | None]:
    """What the check says of each file; None if it is not asked."""
    headers = [scan_header(data) for data in files]
    asked = [number for number, header in enumerate(headers) if header is not None]
    answers: list[bool | None] = [None] * len(files)
    chosen = [header for header in headers if header is not None]
    if not chosen:
        return answers
    scans, size, chunks = pack_scans(chosen)
    data = np.full(size, 0xAB, np.uint8)
    for scan, number, header in zip(scans, asked, chosen, strict=True):
        body = files[number][header.data_at :] + TAIL
        data[scan["data_at"] :][: len(body)] = np.frombuffer(body, np.uint8)
    memory = CheckMemory(
        rig.put(scans), rig.put(data), rig.empty(chunks * CHUNK_RESULT_BYTES), rig.empty(4 * len(chosen))
    )
    launch_jpeg_check(rig.kernels, rig.stream, memory, chosen)
    written = rig.get(memory.verdicts, np.int32, (len(chosen),))
    assert set(written.tolist()) <= {0, 1}
    for number, verdict in zip(asked, written, strict=True):
        answers[number] = bool(verdict)
    return answers


class JpegCheckContract:
    """The tests of the check on a GPU."""

    def test_nothing_that_the_host_refuses_is_sound(self, rig: Rig) -> None:
        jpegs = Jpegs(15)
        slow = seen = 0
        for _ in range(40):
            cases = list(jpegs.damaged(jpegs.sound()))
            for (name, data), answer in zip(cases, verdicts(rig, [data for _, data in cases]), strict=True):
                taken = host_takes(data)
                assert taken or not answer, name
                assert answer or name not in MUST_BE_FAST, name
                seen += taken
                slow += taken and not answer
        assert slow < seen / 2

    def test_large_files_are_read_by_many_blocks(self, rig: Rig) -> None:
        jpegs = Jpegs(16)
        noise = jpegs.large(700, 900)
        header = scan_header(noise)
        assert header is not None
        assert header.data_bytes > 200_000
        middle = len(noise) // 2
        files = [noise, noise[:middle] + noise[middle + 5000 :], noise[:-1000] + END, noise[:-2] + bytes(40_000) + END]
        assert [host_takes(data) for data in files] == [True, False, False, True]
        assert verdicts(rig, files) == [True, False, False, True]

    def test_a_flat_image_has_a_verdict_whatever_the_reader_makes_of_its_middle(self, rig: Rig) -> None:
        """Its data repeats every few bits, so that a reader that is out of step stays so."""
        flat = Jpegs(17).flat(2000, 3000)
        whole, cut = verdicts(rig, [flat, flat[:-300] + END])
        assert whole is not None
        assert cut is False
