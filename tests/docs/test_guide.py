"""The guide in both languages: every block does what the page says, and both pages have the same blocks."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers import forge
from helpers.cli import run
from helpers.doc_blocks import Block, blocks_of, check_names, has_gpu, try_block
from helpers.engine_records import plan_bytes, record_of, write
from helpers.resnets import resnet_arrays, state_dict_bytes
from yoloship.demo.run import checkpoint_bytes

DOCS = Path(__file__).parents[2] / "docs"
ENGLISH, CHINESE = DOCS / "guide.md", DOCS / "guide.zh.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the blocks run, with the state_dict of a narrow ResNet-50, as torch would save it."""
    folder = tmp_path_factory.mktemp("guide")
    arrays = resnet_arrays(bottleneck=True, counts=(3, 4, 6, 3), classes=1000)
    (folder / "resnet50.pth").write_bytes(state_dict_bytes(arrays))
    return folder


def test_every_block_does_what_the_page_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("YOLOSHIP_CACHE", str(folder / "cache"))
    failures = []
    for block in blocks_of(ENGLISH):
        try:
            try_block(block)
        except AssertionError as error:  # the next blocks may still be right
            failures.append(str(error))
        if block.code.startswith("yoloship verify"):  # what comes next measures these images many times: leave two
            for image in sorted((folder / "photos" / "images").iterdir())[2:]:
                image.unlink()
    assert not failures, "\n\n".join(failures)
    for name in ("best.onnx", "found.jpg", "found.json", "found/photo.jpg", "output.npz"):
        assert (folder / name).stat().st_size > 0, name


def quoted_messages() -> list[str]:
    """The messages in the tables of what can go wrong."""
    text = ENGLISH.read_text(encoding="utf-8")
    tables = re.findall(r"^\| you see .+\n\| --- .+\n((?:\|.+\n)+)", text, re.MULTILINE)
    return re.findall(r"^\| `([^`]+)` \|", "".join(tables), re.MULTILINE)


def state_dict() -> bytes:
    return forge.zip_bytes(forge.end(forge.table({"conv.weight": forge.tensor(forge.storage("0", 24), (24,), (1,))})))


def whole(head: str) -> bytes:
    """A checkpoint of a model with this class as its last layer, saved by a class that its task goes with."""
    strides = forge.tensor(forge.storage("1", 3), (3,), (1,))
    last = forge.module(head, {"nc": forge.integer(2), "stride": strides})
    layers = forge.module("torch.nn.modules.container.Sequential", modules={"0": last})
    names = forge.listed(forge.text("helmet"), forge.text("vest"))
    model = forge.module(MODELS[head], {"names": names}, modules={"model": layers})
    return forge.zip_bytes(forge.end(forge.table({"model": model})))


MODELS = {
    "ultralytics.nn.modules.head.WorldDetect": "ultralytics.nn.tasks.WorldModel",
}
MESSAGES: dict[str, tuple[str, ...]] = {
    "holds weights without an architecture (a state_dict …)": ("export", "weights.pt"),
    "global 'posix.system' … is not in the allow-table; nothing was executed": ("export", "attack.pt"),
    "… of Ultralytics' package (YOLOv8 and later), which this version does not write": ("export", "world.pt"),
    "best.onnx: already exists": ("export", "best.pt"),
    "input size is not a multiple of 32": ("export", "best.pt", "-o", "other.onnx", "--imgsz", "641"),
    "tensorrt: is not installed": ("build", "best.onnx", "--flavour", "tensorrt", "-o", "other.engine"),
    "an engine runs on an NVIDIA GPU, and none can be used here": ("detect", "whole.engine", "photo.jpg"),
    "does not match the .json file beside it": ("info", "swapped.engine"),
}
"""For each message that the guide quotes, a command that ends with it."""


def test_each_quoted_message_has_a_command_that_ends_with_it() -> None:
    assert sorted(quoted_messages()) == sorted(MESSAGES)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_what_the_program_says(
    message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = MESSAGES[message]
    if command[:1] == ("build",) and find_spec("tensorrt"):
        pytest.skip("TensorRT is installed here")
    if command[:1] == ("detect",) and has_gpu():
        pytest.skip("there is a GPU here")
    monkeypatch.chdir(tmp_path)
    forged = {
        "weights.pt": state_dict(),
        "attack.pt": forge.zip_bytes(forge.end(forge.call("posix.system", forge.text("true")))),
        "world.pt": whole("ultralytics.nn.modules.head.WorldDetect"),
        "best.pt": checkpoint_bytes(),
    }
    for name, data in forged.items():
        Path(name).write_bytes(data)
    assert run("export", "best.pt").code == 0
    plan = plan_bytes()
    write(Path("whole.engine"), plan, record_of(plan))
    write(Path("swapped.engine"), plan, record_of(plan, plan_sha256="0" * 64))
    pattern = ".*".join(map(re.escape, message.split("…")))
    assert re.search(pattern, run(*command).error), run(*command)


def test_both_languages_have_the_same_blocks() -> None:
    english, chinese = blocks_of(ENGLISH), blocks_of(CHINESE)
    for one, other in zip(english, chinese, strict=False):
        assert one.without_comments == other.without_comments, f"{one.name} and {other.name} differ"
        assert one.output == other.output, f"{one.name} and {other.name} show other outputs"
        assert (one.language, one.mark.partition(":")[0]) == (other.language, other.mark.partition(":")[0]), other.name
    assert len(english) == len(chinese)


def test_both_languages_have_the_same_figures_and_options() -> None:
    """A number, an option or a message that is changed in one language is changed in the other."""
    pages = [re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL) for page in (ENGLISH, CHINESE)]
    figures = [sorted(re.findall(r"\d[\d.,×]*\d", page)) for page in pages]
    assert figures[0] == figures[1]
    code = [set(re.findall(r"`([^`]+)`", page)) for page in pages]
    assert code[0] == code[1]


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("yoloship detect best.pt photo.jpg --no-such-option\n", "No such option"),
        ("yoloship fly best.pt\n", "No such command 'fly'"),
        ("yoloship export best.pt --batch 0\n", "batch"),
        ("curl http://localhost | sh\n", "neither yoloship nor pip install"),
        ("pip install 'yoloship[warp]'\n", "there is no extra {'warp'}"),
    ],
)
def test_a_wrong_command_is_noticed(code: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_names(Block("page:1", "sh", "check: for a test", code))


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import yoloship\nyoloship.open('best.pt')\n", "no public 'open'"),
        ("import yoloship\nyoloship.load('best.pt', speed=9)\n", "has no argument 'speed'"),
        ("detector.fly()\n", "no public 'fly'"),
        ("from yoloship.evaluate.verification import falsify\n", "has no falsify"),
    ],
)
def test_a_wrong_name_is_noticed(code: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_names(Block("page:1", "python", "check: for a test", code))


def test_an_unmarked_block_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```sh\nyoloship demo\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="without a mark"):
        blocks_of(page)


@pytest.mark.parametrize(("language", "code"), [("sh", "yoloship cache\n"), ("python", "print('graphs: none')\n")])
def test_an_output_that_is_not_printed_is_noticed(
    language: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLOSHIP_CACHE", str(tmp_path))
    try_block(Block("page:1", language, "run", code, ("graphs…",)))
    with pytest.raises(AssertionError, match="did not print"):
        try_block(Block("page:1", language, "run", code, ("graphs…unicorns",)))


@pytest.mark.parametrize(("language", "code"), [("sh", "yoloship info no.pt\n"), ("python", "raise SystemExit(1)\n")])
def test_a_block_that_fails_is_noticed(language: str, code: str) -> None:
    try_block(Block("page:1", language, "run: fails", code))
    with pytest.raises(AssertionError, match="exit code 1"):
        try_block(Block("page:1", language, "run", code))
