"""A server on this machine that speaks what is needed of the protocols of S3 and of GCS.

S3: ListObjectsV2 and GetObject. GCS: the JSON methods objects.list and objects.get. Objects are
kept in memory; each read is noted, and a test may have the server break off.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from xml.sax.saxutils import escape


class Bucket:
    """Objects by their keys, and what was asked for.

    Attributes:
      objects: The content of each object.
      asked: Key and range of each object that was read.
      breaks_at: Number of the read from which on all fail; None: never.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.breaks_at: int | None = None
        self.url = ""

    def under(self, prefix: str) -> tuple[list[str], list[str]]:
        """Keys in a folder, and the folders in it."""
        keys = [key for key in sorted(self.objects) if key.startswith(prefix)]
        folders = {
            prefix + k[len(prefix) :].split("/")[0] + "/" for k in keys if "/" in k[len(prefix) :]
        }
        return [key for key in keys if "/" not in key[len(prefix) :]], sorted(folders)


class _Handler(http.server.BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))
        path = urllib.parse.unquote(address.path)
        if found := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.*))?", path):
            self._gcs(found[1], found[2], query)
        else:
            name, _, key = path.lstrip("/").partition("/")
            self._s3(name, key, query)

    def _s3(self, name: str, key: str, query: dict[str, str]) -> None:
        if name != "shared":
            self._xml(404, "<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>")
        elif "list-type" in query:
            keys, folders = self.bucket.under(query.get("prefix", ""))
            objects = self.bucket.objects
            listed = "".join(
                f"<Contents><Key>{escape(k)}</Key><Size>{len(objects[k])}</Size>"
                f'<ETag>"{hashlib.md5(objects[k]).hexdigest()}"</ETag>'
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for k in keys
            ) + "".join(
                f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders
            )
            self._xml(
                200,
                f"<ListBucketResult><Name>{name}</Name><IsTruncated>false</IsTruncated>"
                f"<KeyCount>{len(keys) + len(folders)}</KeyCount>{listed}</ListBucketResult>",
            )
        else:
            self._object(key)

    def _gcs(self, name: str, key: str | None, query: dict[str, str]) -> None:
        if name != "shared":
            self._send(404, b'{"error": {"code": 404, "message": "none"}}', "application/json")
        elif key is None:
            keys, folders = self.bucket.under(query.get("prefix", ""))
            items = [self._facts(name, key) for key in keys]
            self._send(
                200, json.dumps({"items": items, "prefixes": folders}).encode(), "application/json"
            )
        elif query.get("alt") == "media":
            self._object(key)
        elif key in self.bucket.objects:
            self._send(200, json.dumps(self._facts(name, key)).encode(), "application/json")
        else:
            self._send(404, b'{"error": {"code": 404, "message": "none"}}', "application/json")

    def _facts(self, name: str, key: str) -> dict[str, str]:
        data = self.bucket.objects[key]
        return {
            "kind": "storage#object",
            "name": key,
            "bucket": name,
            "size": str(len(data)),
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
            "updated": "2026-01-01T00:00:00.000Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "storageClass": "STANDARD",
        }

    def _object(self, key: str) -> None:
        wanted = self.headers.get("Range", "")
        breaks = self.bucket.breaks_at
        self.bucket.asked.append((key, wanted))
        if breaks is not None and len(self.bucket.asked) > breaks:
            self._xml(403, "<Error><Code>AccessDenied</Code><Message>broken off</Message></Error>")
            return
        if key not in self.bucket.objects:
            self._xml(404, "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
            return
        data = self.bucket.objects[key]
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", wanted):
            first, last = int(found[1]), min(int(found[2]), len(data) - 1)
            where = f"bytes {first}-{last}/{len(data)}"
            self._send(206, data[first : last + 1], "application/octet-stream", where)
        else:
            self._send(200, data, "application/octet-stream")

    def _xml(self, status: int, text: str) -> None:
        self._send(status, f'<?xml version="1.0"?>{text}'.encode(), "application/xml")

    def _send(self, status: int, data: bytes, kind: str, where: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if where:
            self.send_header("Content-Range", where)
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def serving() -> Iterator[Bucket]:
    """Serves a bucket called `shared` under both protocols."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
