"""The open inference protocol of KServe, version 2, which Triton speaks: tensors as JSON and as bytes.

`codec` reads and writes requests and answers, and `Client` asks a server. NumPy and the standard library are enough.
"""

from yoloship.kserve.client import Client
from yoloship.kserve.codec import Encoded, decode_answer, decode_request, encode_answer, encode_request, head_length
from yoloship.kserve.failures import ProtocolError, RemoteError
from yoloship.kserve.tensors import InferAnswer, InferRequest, Limits, Tensor, WantedOutput

__all__ = [
    "Client",
    "Encoded",
    "InferAnswer",
    "InferRequest",
    "Limits",
    "ProtocolError",
    "RemoteError",
    "Tensor",
    "WantedOutput",
    "decode_answer",
    "decode_request",
    "encode_answer",
    "encode_request",
    "head_length",
]
