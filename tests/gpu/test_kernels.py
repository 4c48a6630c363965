from __future__ import annotations

from helpers.cuda_contract import LetterboxContract, PostprocessContract
from helpers.cuda_mask_contract import MasksContract
from helpers.cuda_task_contract import KeypointsContract, RotatedContract


class TestLetterboxOnTheDevice(LetterboxContract):
    pass


class TestPostprocessOnTheDevice(PostprocessContract):
    pass


class TestFreeHeadsOnTheDevice(RotatedContract):
    pass


class TestKeypointsOnTheDevice(KeypointsContract):
    pass


class TestMasksOnTheDevice(MasksContract):
    pass
