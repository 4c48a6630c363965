from __future__ import annotations

import random

import pytest

from yoloship._util.secrets import without_secrets
from yoloship.errors import InputError
from yoloship.sources.live.target import PROTOCOLS, target_of, targets_of

SECRETS = {
    "rtsp://admin:s3cret@cam/live": "rtsp://cam/live",
    "rtsp://admin:s3c@ret@cam:554/live": "rtsp://cam:554/live",
    "rtsp://admin@cam/live": "rtsp://cam/live",
    "http://cam/video?user=admin&password=s3cret&size=2": "http://cam/video?user=***&password=***&size=2",
    "rtsp://cam/user=admin_password=s3cret_channel=1": "rtsp://cam/user=***_password=***_channel=1",
    "http://cam/v.mjpg?access_token=s3cret#x": "http://cam/v.mjpg?access_token=***#x",
    "rtsp://cam/live?Pwd=s3cret;x=1": "rtsp://cam/live?Pwd=***;x=1",
    "rtsp://cam/live": "rtsp://cam/live",
    "rtsp://cam:554/live@2": "rtsp://cam:554/live@2",
    "rtsp://[::1]:554/live@2": "rtsp://[::1]:554/live@2",
}


@pytest.mark.parametrize("address", SECRETS)
def test_no_name_has_a_secret(address: str) -> None:
    target = target_of(address)
    assert target.name == SECRETS[address]
    assert target.address == address
    assert "s3c" not in repr(target)


@pytest.mark.parametrize("address", [address for address, name in SECRETS.items() if name != address])
def test_a_message_of_a_library_is_told_without_secrets(address: str) -> None:
    secret = "s3c@ret" if "s3c@ret" in address else "s3cret" if "s3cret" in address else "admin"
    told = target_of(address).hide(f"cannot open {address}: {secret} was refused")
    assert told == f"cannot open {SECRETS[address]}: *** was refused"


def test_a_password_is_hidden_in_both_spellings() -> None:
    told = target_of("rtsp://me:a%20b%40c@cam/").hide("a%20b%40c, a b@c")
    assert told == "***, ***"


@pytest.mark.parametrize("text", ["0", "2", "007"])
def test_a_number_is_a_camera(text: str) -> None:
    assert target_of(text).camera == int(text)
    assert target_of(text).name == f"camera {int(text)}"


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1000", "²", "9" * 5000, "file:///etc/passwd", "concat:a|b", "photo.jpg", "ftp://h/x", "rtsp:", "://h"],
)
def test_what_is_not_live_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a live source"):
        target_of(text)


@pytest.mark.parametrize(
    "text", ["rtsp://", "rtsp:///x", "rtsp://cam:port/", "rtsp://[::1/", "udp://", "http://cam/a b", "http://cam/\x1b"]
)
def test_a_broken_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a valid address"):
        target_of(text)


def test_an_error_shows_no_password() -> None:
    with pytest.raises(InputError) as caught:
        target_of("ftp://me:s3cret@host/x")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["udp://@:5000", "udp://239.0.0.1:5000", "rtp://:5004"])
def test_an_address_to_listen_at_needs_no_host(text: str) -> None:
    assert target_of(text).scheme == text[:3]


@pytest.mark.parametrize("scheme", PROTOCOLS)
def test_no_scheme_leads_to_files(scheme: str) -> None:
    options = target_of(f"{scheme.upper()}://host:1/x").options(20.0)
    allowed = options["protocol_whitelist"].split(",")
    assert not {"file", "pipe", "fd", "concat", "subfile", "data", "unix", "crypto", "async", "cache"} & set(allowed)
    assert "20000000" in options.values()


def test_several_that_look_alike_get_numbers_and_none_is_read_twice() -> None:
    targets = targets_of(["rtsp://a:b@cam/", "rtsp://c:d@cam/", "0"])
    assert [target.name for target in targets] == ["rtsp://cam/", "rtsp://cam/ (2)", "camera 0"]
    with pytest.raises(InputError, match="is given twice"):
        targets_of(["0", "00"])


def test_whatever_is_written_is_a_target_or_refused() -> None:
    chance = random.Random(5)
    pieces = ["rtsp", "http", "udp", "://", *":@/?#&=%é\0 ", "host", "[::1]", "1", "password"]
    for _ in range(2000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 9)))
        try:
            target = target_of(text)
        except InputError:
            continue
        assert target.camera is not None or target.address == text


def test_no_password_shows_however_it_is_written() -> None:
    chance = random.Random(6)
    for _ in range(1000):
        secret = "x" + "".join(chance.choices(chance.choice(["s3cr%40:@&=;é", "s3cr%40:&=;é/?#"]), k=12))
        try:
            name = target_of(f"rtsp://me:{secret}@host/live?x=1").name
        except InputError as error:
            name = error.subject or ""
        assert name == "rtsp://host/live?x=1"


def test_text_without_secrets_stays_as_it_is() -> None:
    assert without_secrets("connection refused by 10.0.0.1:554") == "connection refused by 10.0.0.1:554"
