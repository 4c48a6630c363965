from __future__ import annotations

from yoloship.model import TensorSpec

IMAGES = TensorSpec("images", "float32", ("batch", 3, 4, 6))


def test_a_spec_reads_well() -> None:
    assert str(IMAGES) == "images float32(batch, 3, 4, 6)"
