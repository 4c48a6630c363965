"""Object stores, on a real S3 server on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.stores import Store, s3_server
from yoloship.batch.buckets import Address, Bucket, is_address, parse
from yoloship.batch.folder import open_folder
from yoloship.batch.listing import find
from yoloship.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_server() as running:
        running.put("cams")
        for name in ("a/2.jpg", "a/10.jpg", "a/notes.txt", "a/b/3.png", "a/.hidden.jpg", "c/4.jpg", "one.jpg"):
            running.put(f"cams/{name}", name.encode())
        yield running


def test_an_address_has_a_scheme_a_place_and_perhaps_a_query() -> None:
    assert parse("s3://b/a/x.jpg?region=eu-1") == Address("s3", "b/a/x.jpg", "?region=eu-1")
    assert parse("gs://b/a/").name == "gs://b/a"
    assert parse("s3://b").bucket == "s3://b"
    assert [is_address(text) for text in ("s3://b", "https://b", "C:\\a", "rtsp://b", "simplecache::s3://b", "a")] == [
        True, *[False] * 5
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://", "has no bucket"),
        ("s3://key:secret@b/x", "has credentials"),
        ("ftp://b/x", "is not an address of an object store"),
        ("memory://b/x", "is not an address of an object store"),
    ],
)
def test_other_addresses_are_refused_without_their_secrets(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse(text)
    assert "secret" not in str(caught.value)


def test_a_file_is_read_and_written_as_a_whole(store: Store) -> None:
    bucket = Bucket(parse("s3://cams"), writes=True)
    assert bucket.read("cams/one.jpg", 100) == b"one.jpg"
    assert bucket.read("cams/nothing.jpg", 100) is None
    with pytest.raises(InputError, match=r"s3://cams/one\.jpg: is too large: expected at most 3 bytes, got 7"):
        bucket.read("cams/one.jpg", 3)
    bucket.write("cams/out/x", b"abc")
    folder = open_folder("s3://cams/out/")
    assert folder.names() == ["x"]
    folder.write("y", b"2")
    assert folder.read("y", 10) == b"2"
    assert folder.read("z", 10) is None
    assert open_folder("s3://cams/new").names() == []


def test_folders_patterns_files_and_lists_in_a_store_are_found(store: Store, tmp_path: object) -> None:
    def names(*texts: str, recursive: bool = False) -> list[str]:
        return [name.removeprefix("s3://cams/") for name in find(texts, recursive=recursive).names]

    assert names("s3://cams/a/") == ["a/2.jpg", "a/10.jpg"]
    assert names("s3://cams/a", recursive=True) == ["a/2.jpg", "a/10.jpg", "a/b/3.png"]
    assert names("s3://cams/*/[0-9].jpg") == ["a/2.jpg", "c/4.jpg"]
    assert names("s3://cams/**/*.png", "s3://cams/one.jpg") == ["a/b/3.png", "one.jpg"]
    assert names("s3://cams/one.jpg", "s3://cams/one.jpg") == ["one.jpg"]
    assert find(["s3://cams/a"]).notes == ["skipped in s3://cams/a: 1 folder (--recursive), 1 .txt, 1 hidden image"]


def test_the_query_of_an_address_is_in_no_name_and_may_not_differ(store: Store) -> None:
    query = f"?endpoint_override={store.endpoint}&scheme=http"
    found = find([f"s3://cams/a{query}", "s3://cams/c"])
    assert found.names == ["s3://cams/a/2.jpg", "s3://cams/a/10.jpg", "s3://cams/c/4.jpg"]
    assert found.queries == {"s3://cams": query}
    with pytest.raises(InputError, match="two different connection settings"):
        find([f"s3://cams/a{query}", "s3://cams/c?region=x"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://cams/empty/", r"s3://cams/empty: has no images: expected files such as .*, got nothing of that name"),
        ("s3://cams/*.bmp", r"s3://cams/\*\.bmp: matches no images"),
        ("s3://nobody/a/", r"s3://nobody/a: does not exist; check the name of the bucket"),
    ],
)
def test_what_is_not_in_the_store_is_said(store: Store, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find([text])


@pytest.mark.parametrize(
    ("said", "words"),
    [  # as pyarrow 26 has them; a real closed port takes the SDK six seconds
        ("When getting information for key 'a' in bucket 'b': AWS Error NETWORK_CONNECTION during HeadObject: "
         "curlCode: 7, Couldn't connect to server", r"s3://b/a: the store cannot be reached; check the network"),
        ("When reading information for key 'a' in bucket 'b': AWS Error ACCESS_DENIED during HeadObject operation: "
         "No response body.", r"s3://b/a: access was refused; check the credentials of this process and its nodes"),
        ("AWS Error SLOW_DOWN\nduring PutObject", r"s3://b/a: the store says: AWS Error SLOW_DOWN during PutObject"),
    ],
)  # fmt: skip
def test_what_a_store_says_is_one_line(store: Store, said: str, words: str) -> None:
    bucket = Bucket(parse("s3://b"))
    with pytest.raises(InputError, match=words), bucket.errors("s3://b/a"):
        raise OSError(said)


def test_a_bucket_that_is_not_there_and_a_wrong_query_are_refused(store: Store) -> None:
    with pytest.raises(OutputError, match=r"s3://nobody/x: does not exist"):
        open_folder("s3://nobody/x").make()
    with pytest.raises(InputError, match="the store says: "):
        find(["s3://cams/a?colour=red"])
