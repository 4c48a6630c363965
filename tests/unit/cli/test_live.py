from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import av
import click
import cv2
import numpy as np
import pytest

from helpers.cameras import HW, BytesServer, MjpegCamera, video_bytes
from helpers.cli import run
from helpers.models import finds_a_cat
from yoloship.cli.live import opened_page, place_of
from yoloship.sinks import DrawStyle

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="live sources are not for Windows yet"),
]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that finds a cat in the middle of every image, and an image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    Path("cat.onnx").write_bytes(finds_a_cat((64, 96)).SerializeToString())
    cv2.imwrite("a.png", np.full((*HW, 3), 90, np.uint8))
    return tmp_path


def test_a_stream_is_read_to_its_end_and_every_frame_is_a_record(work: Path) -> None:
    with BytesServer(video_bytes(8)) as server:
        address = server.address.replace("://", "://me:s3cret@")
        done = run("predict", "cat.onnx", address, "--live", "every", "--json", "found.json")
    assert done.code == 0, done.err
    records = json.loads(Path("found.json").read_text())
    assert [record["index"] for record in records] == list(range(8))
    assert {record["input"] for record in records} == {server.address} == {record["stream"] for record in records}
    assert [record["time_s"] for record in records] == pytest.approx([index / 25 for index in range(8)])
    assert all(record["detections"] for record in records)
    assert f"{server.address}: running, 64×48" in done.err
    assert f"{server.address}: ended: 8 frames, 0 dropped, 0 damaged, 0 reconnects" in done.err
    assert not Path("runs").exists(), "a camera would fill the disk"
    for text in (done.out, done.err, Path("found.json").read_text()):
        assert "s3cret" not in text


def test_an_annotated_video_is_written_if_you_ask_for_it(work: Path) -> None:
    with BytesServer(video_bytes(4)) as server:
        done = run("predict", "cat.onnx", server.address, "--live", "every", "-o", "found")
    assert done.code == 0, done.err
    host = server.address.removeprefix("tcp://").replace(":", "_")
    assert [path.name for path in Path("found").iterdir()] == [f"{host}.mp4"]
    with av.open(f"found/{host}.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == 4


def test_a_stream_that_cannot_be_reached_fails_the_run_after_the_others(work: Path) -> None:
    with MjpegCamera() as camera:
        gone = camera.address
    with BytesServer(video_bytes(4)) as server:
        done = run(
            "predict", "cat.onnx", "a.png", f"live:{gone}", server.address,
            "--live", "every", "--live-retries", "0", "--live-timeout", "60", "--json", "found.json",
        )  # fmt: skip
    assert done.code == 1
    assert f"error: {gone}: connection refused" in done.err
    records = json.loads(Path("found.json").read_text())
    assert records[0]["input"] == "a.png"
    assert len(records) == 6


def test_a_camera_that_is_not_there_is_one_line_with_a_way_forward(work: Path) -> None:
    if Path("/dev/video99").exists() or not Path("/dev").exists():
        pytest.skip("this machine has a camera of that number, or no /dev")
    done = run("predict", "cat.onnx", "99", "--no-draw")
    assert done.code == 1
    assert "/dev/video99 does not exist; there is" in done.err


@pytest.mark.parametrize("words", [("--live", "newest"), ("--live-timeout", "5"), ("--live-retries", "0")])
def test_an_option_for_cameras_is_refused_without_one(work: Path, words: tuple[str, str]) -> None:
    done = run("predict", "cat.onnx", "a.png", *words)
    assert done.code == 2
    assert f"{words[0]}: only cameras and streams are live" in done.err


@pytest.mark.parametrize("number", ["0", "-1", "x", "100000"])
def test_a_timeout_is_in_seconds(work: Path, number: str) -> None:
    assert run("predict", "cat.onnx", "a.png", "--live-timeout", number).code == 2


def test_show_says_where_the_page_is_and_ends_with_the_run(work: Path) -> None:
    done = run("predict", "cat.onnx", "a.png", "--no-draw", "--hide-labels", "--show")
    assert done.code == 0, done.err
    (line,) = (line for line in done.err.splitlines() if line.startswith("show: "))
    host, port = line.split("/")[2].split(":")
    assert host == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(work: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("predict", "missing.onnx", "a.png", "--show-at", port)
    assert done.code == 1
    assert f"127.0.0.1:{port}: cannot be listened on" in done.err


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (None, ("127.0.0.1", 0)),
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_a_place_is_a_port_with_or_without_an_address(text: str | None, place: tuple[str, int]) -> None:
    assert place_of(text) == place


@pytest.mark.parametrize(
    "text", ["", "0", "65536", "http", "host", "::1:80", "127.0.0.1:", "²", "9" * 5000, "-1", "8080 "]
)
def test_what_is_not_a_place_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="--show-at takes a port"):
        place_of(text)


def test_who_is_elsewhere_is_told_how_to_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")
    opened_page(None, DrawStyle()).close()
    assert "ssh -L " in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    opened_page(f"0.0.0.0:{port}", DrawStyle()).close()
    told = capsys.readouterr().err
    assert f"warning: anyone who can reach port {port}" in told
    assert "use the IP address of this machine instead of 0.0.0.0" in told
    assert "ssh" not in told
