"""A hub on the loopback: the endpoints that huggingface_hub asks for models, with git's notions of commits.

Files are kept in memory. What goes wrong on the way can be asked for: a cut download, a gated repository.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]
TOKEN = "hf_of_the_tests"


@dataclass
class Repository:
    """Commits by their hashes, and the branches and tags that name them."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, files: Files, branch: str = "main") -> str:
        """Add or replace files on a branch; the hash of the new commit."""
        before = self.refs.get(branch)
        content = {**self.commits.get(before or "", {}), **files}
        listing = repr(
            (before, sorted((path, hashlib.sha1(data).hexdigest()) for path, data in content.items()))
        )
        name = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[name] = content
        self.refs[branch] = name
        return name

    def find(self, revision: str) -> str | None:
        return self.refs.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """The state of the server, which tests read and change.

    Attributes:
        repositories: by name.
        requests: what was asked, as "METHOD path".
        cuts: path of a file -> how many more answers break off after half of their bytes.
        uploads: what arrived by git's protocol for large files, by SHA-256.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    cuts: dict[str, int] = field(default_factory=dict)
    uploads: Files = field(default_factory=dict)

    def repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def fetched(self) -> set[str]:
        """Files whose content was asked for."""
        found = [re.fullmatch(r"GET /[^/]+/[^/]+/resolve/[^/]+/(.+)", line) for line in self.requests]
        return {match[1] for match in found if match}


class RefusedError(Exception):
    """An answer that is an error: its status, and the code by which a client knows it."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:  # noqa: N802
        self.answer()

    def do_GET(self) -> None:  # noqa: N802
        self.answer()

    def do_POST(self) -> None:  # noqa: N802
        self.answer()

    def do_PUT(self) -> None:  # noqa: N802
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.hub.requests.append(f"{self.command} {path}")
        try:
            for method, pattern, act in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in method:
                    act(self, body, **match.groupdict())
                    return
            raise RefusedError(404, "EntryNotFound")
        except RefusedError as error:
            status, code = error.args
            self.send({"error": code}, status, {"X-Error-Code": code})

    def send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def found(self, name: str) -> Repository:
        repository = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not known):
            raise RefusedError(401 if not known else 404, "RepoNotFound")
        return repository

    def at(self, name: str, revision: str) -> tuple[str, Files]:
        repository = self.found(name)
        commit = repository.find(revision)
        if commit is None:
            raise RefusedError(404, "RevisionNotFound")
        return commit, repository.commits[commit]

    # ---- reading

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        commit, files = self.at(name, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(files)]
        self.send(
            {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": [], "private": False}
        )

    def tree(self, body: bytes, name: str, revision: str) -> None:
        _, files = self.at(name, revision)
        self.send(
            [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in sorted(files.items())
            ]
        )

    def refs(self, body: bytes, name: str) -> None:
        refs = self.found(name).refs.items()
        branches = [{"name": one, "ref": f"refs/heads/{one}", "targetCommit": commit} for one, commit in refs]
        self.send({"branches": branches, "tags": [], "converts": []})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        commit, files = self.at(name, revision)
        if self.found(name).gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusedError(403, "GatedRepo")
        if path not in files:
            raise RefusedError(404, "EntryNotFound")
        data, start = files[path], 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked:
            start = int(asked[1])
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cuts.get(path, 0) > 0:
            self.hub.cuts[path] -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[start:])

    # ---- writing

    def require_token(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusedError(401, "Unauthorized")

    def create(self, body: bytes) -> None:
        self.require_token()
        told = json.loads(body)
        name = f"{told['organization'] or 'user'}/{told['name']}"
        if name in self.hub.repositories:
            self.send({"error": "exists", "url": f"{self.hub.url}/{name}"}, 409)
            return
        made = self.hub.repository(name)
        made.private = told.get("visibility") == "private" or bool(told.get("private"))
        made.commit({".gitattributes": b"*.oeb filter=lfs diff=lfs merge=lfs -text\n"})
        self.send({"url": f"{self.hub.url}/{name}", "name": name})

    def validate(self, body: bytes) -> None:
        self.send({"warnings": [], "errors": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        self.require_token()
        self.at(name, revision)
        self.send(
            {
                "files": [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if one["path"].endswith(".oeb") else "regular",
                        "shouldIgnore": False,
                    }
                    for one in json.loads(body)["files"]
                ]
            }
        )

    def batch(self, body: bytes, name: str) -> None:
        self.require_token()
        objects = []
        for one in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}
            there = one["oid"] in self.hub.uploads
            objects.append(
                {"oid": one["oid"], "size": one["size"], **({} if there else {"actions": actions})}
            )
        self.send({"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise RefusedError(400, "BadHash")
        self.hub.uploads[oid] = body
        self.send({})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        self.require_token()
        self.at(name, revision)
        files: Files = {}
        for line in body.splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            elif item["key"] == "lfsFile":
                files[item["value"]["path"]] = self.hub.uploads[item["value"]["oid"]]
        oid = self.hub.repositories[name].commit(files, revision)
        self.send({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid, "success": True})


_NAME = r"(?P<name>[^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", f"/api/models/{_NAME}", Handler.info),
    ("GET", f"/api/models/{_NAME}/revision/(?P<revision>.+)", Handler.info),
    ("GET", f"/api/models/{_NAME}/tree/(?P<revision>.+)", Handler.tree),
    ("GET", f"/api/models/{_NAME}/refs", Handler.refs),
    ("GET HEAD", f"/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("POST", f"/api/models/{_NAME}/preupload/(?P<revision>.+)", Handler.preupload),
    ("POST", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", Handler.upload),
    ("POST", f"/api/models/{_NAME}/commit/(?P<revision>.+)", Handler.commit),
]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers on the loopback while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
