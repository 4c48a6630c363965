from __future__ import annotations

import inspect
import re

import pytest

from yoloship import errors
from yoloship.errors import CudaError, ImageError, InputError, YoloshipError


def test_a_message_names_object_problem_expectation_finding_and_next_step() -> None:
    error = InputError("wrong shape", subject="images", expected="(1, 3, 640, 640)", got="(3, 640)", hint="add a batch")
    assert str(error) == "images: wrong shape: expected (1, 3, 640, 640), got (3, 640); add a batch"


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    assert str(YoloshipError("line one\n  line two", hint="x\ty")) == "line one line two; x y"


def test_the_facts_are_attributes() -> None:
    error = CudaError("failed", code=2, name="CUDA_ERROR_OUT_OF_MEMORY", subject="cuMemAlloc", expected="1", got="0")
    facts = (error.code, error.name, error.subject, error.expected, error.got, error.problem)
    assert facts == (2, "CUDA_ERROR_OUT_OF_MEMORY", "cuMemAlloc", "1", "0", "failed")


@pytest.mark.parametrize(
    "kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
)
def test_every_error_is_below_the_base(kind: type[Exception]) -> None:
    assert issubclass(kind, YoloshipError)


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = set(re.findall(r"^[│├└─ ]*(\w+Error)\b", errors.__doc__ or "", flags=re.MULTILINE))
    defined = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, YoloshipError)}
    assert drawn == defined


def test_an_unreadable_image_is_an_input_error() -> None:
    assert issubclass(ImageError, InputError)


def test_the_name_of_a_file_is_shown_letter_by_letter() -> None:
    assert str(InputError("is bad", subject="two  spaces\n\x1b.jpg")) == "two  spaces\\x0a\\x1b.jpg: is bad"
    assert str(InputError("is bad", subject=" ")) == "' ': is bad"
