from __future__ import annotations

import pytest

from yoloship.engine import InputProfile
from yoloship.errors import InputError, SessionError
from yoloship.model import DTYPES, TensorSpec
from yoloship.runtime.device_context import Lifetime
from yoloship.runtime.session import ITEM_BYTES, DeviceTensor, check_shapes, choose_profile

IMAGES = TensorSpec("images", "float32", ("batch", 3, "side", "side"))


def profile(low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]) -> tuple[InputProfile, ...]:
    return (InputProfile("x", low, best, high),)


def test_shapes_come_back_as_plain_integers_in_the_order_of_the_model() -> None:
    scale = TensorSpec("scale", "float32", ("batch",))
    found = check_shapes([IMAGES, scale], {"scale": (2,), "images": (2, 3, 64, 64)})
    assert list(found.items()) == [("images", (2, 3, 64, 64)), ("scale", (2,))]


@pytest.mark.parametrize("shape", [(1, 3, 64, 32), (1, 4, 64, 64), (1, 3, 64), (0, 3, 64, 64), (-1, 3, 64, 64)])
def test_a_shape_that_does_not_fit_is_refused_with_the_models(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"images: wrong shape: expected \(batch, 3, side, side\), got \("):
        check_shapes([IMAGES], {"images": shape})


def test_of_several_profiles_the_one_tuned_nearest_is_chosen() -> None:
    profiles = [
        profile((1, 32), (1, 640), (8, 640)),
        profile((1, 32), (8, 640), (8, 640)),
        profile((1, 32), (1, 64), (1, 64)),
    ]
    asked = [choose_profile(profiles, {"x": shape}) for shape in ((1, 640), (8, 640), (6, 512), (1, 64), (2, 64))]
    assert asked == [0, 1, 1, 2, 0]
    assert choose_profile([], {"x": (1, 1)}) == 0


def test_a_shape_outside_every_profile_names_each_range_once() -> None:
    profiles = [
        profile((1, 32), (1, 64), (2, 64)),
        profile((4, 32), (4, 64), (8, 64)),
        profile((4, 32), (8, 64), (8, 64)),
    ]
    with pytest.raises(InputError) as caught:
        choose_profile(profiles, {"x": (3, 64)})
    assert caught.value.subject == "x"
    assert caught.value.expected == "(1, 32) to (2, 64) or (4, 32) to (8, 64)"
    assert caught.value.got == "(3, 64)"


def test_every_element_type_has_a_size() -> None:
    assert ITEM_BYTES.keys() == DTYPES
    assert DeviceTensor("x", "float16", (2, 3, 5), 256).size_bytes == 60
    assert DeviceTensor("x", "int64", (), 256).size_bytes == 8


def test_a_thing_is_let_go_of_once_when_closed_and_unused() -> None:
    said: list[str] = []
    life = Lifetime(lambda: said.append("gone"), "model")
    life.enter()
    life.close()
    life.close()
    assert not said
    with pytest.raises(SessionError, match="model: the session is closed"):
        life.enter()
    life.leave()
    assert said == ["gone"]
    unused = Lifetime(lambda: said.append("again"), "model")
    unused.close()
    unused.close()
    assert said == ["gone", "again"]
