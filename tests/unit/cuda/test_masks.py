from __future__ import annotations

import pytest

from yoloship.cuda.extras import Extras
from yoloship.cuda.masks import Prototypes
from yoloship.errors import InputError


def test_too_many_prototypes_are_refused() -> None:
    with pytest.raises(InputError, match="prototypes: out of range: expected 1 to 256, got 257"):
        Prototypes(0, 257, (10, 10), 4, Extras(0, 1))
