"""Where files are kept: a folder, memory, a bucket of an S3 on the loopback and PostgreSQL all do the same."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pytest
from obstore.store import MemoryStore, S3Store
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.core.errors import OriginalMissing, OriginalsUnavailable
from app.db.files import DatabaseFiles
from app.storage.originals import InvalidStorageUrl, LocalFolder, ObjectStorage, Originals, open_originals
from app.storage.spool import Spool
from tests.fixtures.service import serving

LARGE = os.urandom(12 * 1024 * 1024)


@dataclass
class FakeS3:
    """As much of S3 as storing files takes: objects, and uploads in parts."""

    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    url: str = ""

    async def handle(self, request: Request) -> Response:  # noqa: PLR0911 one for each thing that S3 does
        key = request.path_params.get("key", "")
        query = request.query_params
        body = await request.body()
        match request.method:
            case "POST" if "uploads" in query:
                upload_id = f"upload-{len(self.parts)}"
                self.parts[upload_id] = {}
                return _xml("InitiateMultipartUploadResult", Bucket="b", Key=key, UploadId=upload_id)
            case "POST" if "delete" in query:
                return self._delete(
                    [str(e.text) for e in ElementTree.fromstring(body).iter() if e.tag[-3:] == "Key"]
                )
            case "POST":
                parts = self.parts.pop(query["uploadId"])
                self.objects[key] = b"".join(parts[number] for number in sorted(parts))
                return _xml("CompleteMultipartUploadResult", Bucket="b", Key=key, ETag='"e"', Location="l")
            case "PUT" if "partNumber" in query:
                self.parts[query["uploadId"]][int(query["partNumber"])] = body
                return Response(headers={"ETag": f'"{query["partNumber"]}"'})
            case "PUT":
                self.objects[key] = body
                return Response(headers={"ETag": '"e"'})
            case "DELETE":
                self.objects.pop(key, None)
                return Response(status_code=204)
            case _ if not key:
                return self._listing()
            case _ if key not in self.objects:
                return Response(status_code=404)
        headers = {"ETag": '"e"', "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
        return Response(self.objects[key], headers=headers)

    def _delete(self, keys: list[str]) -> Response:
        root = ElementTree.Element("DeleteResult")
        for key in keys:
            self.objects.pop(key, None)
            deleted = ElementTree.SubElement(root, "Deleted")
            ElementTree.SubElement(deleted, "Key").text = key
        return Response(ElementTree.tostring(root), media_type="application/xml")

    def _listing(self) -> Response:
        root = ElementTree.Element("ListBucketResult")
        ElementTree.SubElement(root, "IsTruncated").text = "false"
        for key, content in self.objects.items():
            entry = ElementTree.SubElement(root, "Contents")
            for name, value in {
                "Key": key,
                "Size": str(len(content)),
                "LastModified": "2026-11-21T10:00:00.000Z",
                "ETag": '"e"',
            }.items():
                ElementTree.SubElement(entry, name).text = value
        return Response(ElementTree.tostring(root), media_type="application/xml")


def _xml(name: str, **values: str) -> Response:
    root = ElementTree.Element(name)
    for key, value in values.items():
        ElementTree.SubElement(root, key).text = value
    return Response(ElementTree.tostring(root), media_type="application/xml")


@pytest.fixture(scope="session")
async def s3() -> AsyncIterator[FakeS3]:
    fake = FakeS3()
    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    routes = [Route(path, fake.handle, methods=methods) for path in ("/b", "/b/{key:path}")]
    async with serving(Starlette(routes=routes)) as fake.url:
        yield fake


@pytest.fixture(params=["folder", "memory", "s3", "database"])
def originals(request: pytest.FixtureRequest, tmp_path: Path, s3: FakeS3) -> Originals:
    if request.param == "database":
        return DatabaseFiles(request.getfixturevalue("database"))
    if request.param == "folder":
        return LocalFolder(tmp_path / "originals")
    if request.param == "memory":
        return ObjectStorage(MemoryStore())
    return ObjectStorage(
        S3Store(
            "b",
            prefix="ibid",
            endpoint=s3.url,
            access_key_id="a",
            secret_access_key="s",
            region="r",
            client_options={"allow_http": True},
        )
    )


def file_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "arrived"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
async def test_what_is_stored_comes_back(originals: Originals, tmp_path: Path, content: bytes) -> None:
    await originals.put(file_of(tmp_path, content), "0123abcd")

    assert b"".join([block async for block in originals.read("0123abcd")]) == content
    async with originals.local_copy("0123abcd") as path:
        assert path.read_bytes() == content
    assert await originals.keys() == {"0123abcd"}
    await originals.delete("0123abcd")
    assert await originals.keys() == set()


async def test_what_is_gone_is_missing_and_may_be_deleted_again(originals: Originals) -> None:
    await originals.delete("ffff")

    with pytest.raises(OriginalMissing):
        [block async for block in originals.read("ffff")]
    with pytest.raises(OriginalMissing):
        async with originals.local_copy("ffff"):
            pass


async def test_a_bucket_that_is_away_is_unavailable(tmp_path: Path) -> None:
    away = ObjectStorage(
        S3Store(
            "b",
            endpoint="http://127.0.0.1:1",
            access_key_id="a",
            secret_access_key="s",
            region="r",
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
    )

    with pytest.raises(OriginalsUnavailable):
        await away.put(file_of(tmp_path, b"x"), "00")


def test_the_address_says_where(tmp_path: Path) -> None:
    folder = open_originals(None, folder=tmp_path / "default")
    assert isinstance(folder, LocalFolder)
    assert folder.folder == tmp_path / "default"
    assert not folder.folder.exists()
    named = open_originals("file:///srv/originals", folder=tmp_path)
    assert isinstance(named, LocalFolder)
    assert named.folder == Path("/srv/originals")
    for url in ("s3://bucket/prefix", "gs://bucket", "memory://"):
        assert isinstance(open_originals(url, folder=tmp_path), ObjectStorage), url


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "s3://", "bucket", "file://host/folder", "file:relative", "https://x"]
)
def test_another_address_is_refused_with_what_it_should_be(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidStorageUrl, match="s3://bucket"):
        open_originals(url, folder=tmp_path)


WRITER = """
import sys, time
from pathlib import Path
from app.storage.spool import Spool
from tests.fixtures.service import serving
file = Spool(Path(sys.argv[1])).create()
file.write(b"half of")
print("written", flush=True)
time.sleep(60)
"""


def test_what_a_dead_process_left_is_removed_and_nothing_of_a_living_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    mine = spool.create()
    writer: Callable[[], subprocess.Popen[bytes]] = lambda: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with writer() as living, writer() as dying:
        for process in (living, dying):
            assert process.stdout is not None
            assert process.stdout.readline() == b"written\n"
        dying.send_signal(signal.SIGKILL)
        dying.wait()

        assert spool.sweep() == 1

        assert len(list(tmp_path.glob("*.part"))) == 2
        living.kill()
    mine.discard()
    assert spool.sweep() == 1
    assert list(tmp_path.glob("*")) == []
