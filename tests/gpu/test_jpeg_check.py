from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from helpers.cuda_jpeg_contract import JpegCheckContract
from helpers.damaged_jpegs import END, Jpegs, host_takes, with_equal_tables
from yoloship.cuda.jpeg_check import JpegCheck
from yoloship.cuda.jpeg_scan import scan_header
from yoloship.errors import CudaError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from yoloship.cuda.compiler import Launchable
    from yoloship.cuda.device import Device
    from yoloship.cuda.jpeg_scan import ScanHeader
    from yoloship.cuda.stream import Stream


class TestJpegCheckOnTheDevice(JpegCheckContract):
    pass


def headers_of(files: Sequence[bytes]) -> list[ScanHeader]:
    headers = [header for data in files if (header := scan_header(data)) is not None]
    assert len(headers) == len(files)
    return headers


def test_batches_of_any_size_follow_each_other(
    kernels: Mapping[str, Launchable], device: Device, stream: Stream
) -> None:
    jpegs = Jpegs(3)
    with JpegCheck(kernels, device, 8) as check:
        for count in (1, 8, 3, 5):
            files = [jpegs.sound() for _ in range(count)]
            broken = [data[:-2] if number % 2 else data for number, data in enumerate(files)]
            begun = check.begin(stream, [memoryview(data) for data in broken], headers_of(broken))
            assert begun.verdicts() == [number % 2 == 0 for number in range(count)]
    check.close()
    with pytest.raises(InputError, match="JpegCheck: is closed"):
        check.begin(stream, files, headers_of(files))


def test_memory_grows_with_the_files(kernels: Mapping[str, Launchable], device: Device, stream: Stream) -> None:
    large = Jpegs(4).large(1400, 1800)
    assert len(large) > 1_400_000
    with JpegCheck(kernels, device, 2) as check:
        for files in ([large[:-2]], [large, large[:-500] + END]):
            verdicts = check.begin(stream, files, headers_of(files)).verdicts()
        assert verdicts == [True, False]  # of the large batch, which a thread copies


def test_each_batch_keeps_its_own_verdicts_while_others_follow_and_after_closing(
    kernels: Mapping[str, Launchable], device: Device, stream: Stream
) -> None:
    jpegs = Jpegs(9)
    large, small = jpegs.large(1200, 1600), jpegs.sound()
    with JpegCheck(kernels, device, 2) as check:
        batches = [[small], [large[:-2], large], [small[:-2]], [large, large[:-2]], [small, small[:-2]]]
        begun = [check.begin(stream, files, headers_of(files)) for files in batches]
        assert begun[1].verdicts() == [False, True]
    assert [one.verdicts() for one in begun] == [[True], [False, True], [False], [True, False], [True, False]]


def test_threads_may_ask_for_the_verdicts_of_a_batch_while_the_next_one_begins(
    kernels: Mapping[str, Launchable], device: Device, stream: Stream
) -> None:
    sound = Jpegs(10).sound()
    files = [sound if number % 3 else sound[:-2] for number in range(60)]
    with JpegCheck(kernels, device, 1) as check, ThreadPoolExecutor(4) as pool:
        begun = [pool.submit(check.begin(stream, [data], headers_of([data])).verdicts) for data in files]
        assert [one.result() for one in begun] == [[data is sound] for data in files]


def test_a_large_batch_may_be_left_without_asking_for_its_verdicts(
    kernels: Mapping[str, Launchable], device: Device, stream: Stream
) -> None:
    jpegs = Jpegs(6)
    large, small = jpegs.large(1200, 1600), jpegs.sound()
    with JpegCheck(kernels, device, 2) as check:
        for files in ([large, large[:-2]], [small[:-2]], [large[:-2], large]):
            check.begin(stream, files, headers_of(files))
        begun = check.begin(stream, [small], headers_of([small]))
        assert begun.verdicts() == [True]
        assert begun.verdicts() == [True]
        check.begin(stream, [large, large], headers_of([large, large]))


class FailingKernels(dict[str, "Launchable"]):
    """Kernels, of which one is there when it is loaded, and fails when it is first launched."""

    asked = 0

    def __getitem__(self, entry: str) -> Launchable:
        self.asked += entry == "jpeg_judge"
        if entry == "jpeg_judge" and self.asked == 2:
            raise CudaError("failed", code=700, name="CUDA_ERROR_ILLEGAL_ADDRESS", subject=entry)
        return super().__getitem__(entry)


def test_a_failure_of_the_thread_that_copies_is_told_with_the_verdicts(
    kernels: Mapping[str, Launchable], device: Device, stream: Stream
) -> None:
    files = [Jpegs(8).large(1200, 1600)] * 2
    with JpegCheck(FailingKernels(kernels), device, 2) as check:
        failed = check.begin(stream, files, headers_of(files))
        assert check.begin(stream, files, headers_of(files)).verdicts() == [True, True]
        for _ in range(2):
            with pytest.raises(CudaError, match="jpeg_judge: failed"):
                failed.verdicts()


def test_two_tables_alike_are_one(kernels: Mapping[str, Launchable], device: Device, stream: Stream) -> None:
    """The data does not tell then which block of an MCU is read, and a guess would never fall into step."""
    data = with_equal_tables(Jpegs(7).grey(600, 720))
    assert host_takes(data)
    header = headers_of([data])[0]
    assert header.data_bytes > 150_000
    assert (header.dc_tables, header.ac_tables) == (0, 0)
    with JpegCheck(kernels, device, 2) as check:
        begun = check.begin(stream, [data, data[:-1000] + END], [header, headers_of([data[:-1000] + END])[0]])
        assert begun.verdicts() == [True, False]


def test_no_files_or_too_many_are_refused(kernels: Mapping[str, Launchable], device: Device, stream: Stream) -> None:
    files = [Jpegs(5).sound()] * 3
    with JpegCheck(kernels, device, 2) as check:
        for some in (files, []):
            with pytest.raises(InputError, match="JpegCheck: wrong number of files: expected 1 to 2, each with its"):
                check.begin(stream, some, headers_of(some))
        with pytest.raises(InputError, match="got 2 files and 1 headers"):
            check.begin(stream, files[:2], headers_of(files[:1]))
