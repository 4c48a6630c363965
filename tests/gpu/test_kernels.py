from __future__ import annotations

from helpers.cuda_contract import LetterboxContract, PostprocessContract


class TestLetterboxOnTheDevice(LetterboxContract):
    pass


class TestPostprocessOnTheDevice(PostprocessContract):
    pass
