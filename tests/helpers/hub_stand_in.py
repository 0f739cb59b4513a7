"""A local server with the endpoints of the Hugging Face hub that push and hf:// use.

It keeps all files of every commit, and large files by sha256, as the hub does. `trouble` selects a failure. It records
what it is asked, and says of every file that it is stored with Xet if `xet` is set; it has no such storage, so that the
transfer fails, but until then hf_xet does everything that it does for the hub.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_stand_in"

SMALL = (".md", ".json")
"""What the hub stores as text, without Git LFS."""


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The files of every commit, newest last."""

    @property
    def files(self) -> dict[str, bytes]:
        return list(self.commits.values())[-1] if self.commits else {}

    def commit(self, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid] = {**self.files, **files}
        return oid


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Hub"

    def handle_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.body()
        self.server.asked.append(f"{self.command} {path}")
        self.server.user_agents.append(self.headers.get("User-Agent", ""))
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                if "POST" in method and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self.say(401, {"error": "Invalid username or password."})
                return answer(self, body, **match.groupdict())
        self.say(404, {"error": f"the stand-in has no endpoint {self.command} {path}"})

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def say(self, status: int, body: Any, **headers: object) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.user_agents: list[str] = []
        self.xet = False
        self.trouble: str | None = None

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()


def create(handler: Handler, body: bytes) -> None:
    asked = json.loads(body)
    repo = f"{asked['organization']}/{asked['name']}"
    private = asked.get("private", False) or asked.get("visibility") == "private"
    if repo in handler.server.repositories:
        return handler.say(409, {"error": "You already created this model repo", "url": f"{handler.server.url}/{repo}"})
    if handler.server.trouble == "forbids":
        return handler.say(403, {"error": "You have no right to create a model there"})
    handler.server.repositories[repo] = Repository(private=private)
    handler.say(200, {"url": f"{handler.server.url}/{repo}", "name": repo})


def info(handler: Handler, body: bytes, repo: str) -> None:
    kept = handler.server.repositories.get(repo)
    if kept is None:
        return handler.say(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
    handler.say(200, {"_id": "1", "id": repo, "private": kept.private, "sha": next(reversed(kept.commits), None),
                      "tags": [], "siblings": [], "downloads": 0, "likes": 0})  # fmt: skip


def validate(handler: Handler, body: bytes) -> None:
    _, front_matter, _ = json.loads(body)["content"].split("---\n", 2)
    errors = [] if isinstance(yaml.safe_load(front_matter), dict) else [{"message": "no metadata"}]
    handler.say(400 if errors else 200, {"errors": errors, "warnings": []})


def preupload(handler: Handler, body: bytes, repo: str) -> None:
    modes = [
        {
            "path": file["path"],
            "uploadMode": "regular" if file["path"].endswith(SMALL) else "lfs",
            "shouldIgnore": False,
        }
        for file in json.loads(body)["files"]
    ]
    handler.say(200, {"files": modes})


def batch(handler: Handler, body: bytes, repo: str) -> None:
    objects = [
        {**item, "actions": {"upload": {"href": f"{handler.server.url}/large/{item['oid']}", "header": {}}}}
        for item in json.loads(body)["objects"]
    ]
    handler.say(200, {"transfer": "basic", "objects": objects})


def put(handler: Handler, body: bytes, oid: str) -> None:
    assert hashlib.sha256(body).hexdigest() == oid
    handler.server.large[oid] = body
    handler.say(200, {})


def commit(handler: Handler, body: bytes, repo: str) -> None:
    if handler.server.trouble == "breaks":
        return handler.say(400, {"error": "the commit cannot be made"})
    files = {}
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = handler.server.large[value["oid"]]
    oid = handler.server.repositories[repo].commit(files)
    handler.say(200, {"commitUrl": f"{handler.server.url}/{repo}/commit/{oid}", "commitOid": oid, "success": True})


def resolve(handler: Handler, body: bytes, repo: str, revision: str, file: str) -> None:
    kept = handler.server.repositories.get(repo)
    if kept is None or (kept.private and handler.headers.get("Authorization") != f"Bearer {TOKEN}"):
        return handler.say(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
    if kept.gated:
        return handler.say(403, {"error": "Access is restricted"}, X_Error_Code="GatedRepo")
    if file == "config.json" and handler.server.trouble == "fails to count":
        return handler.say(500, {"error": "Internal error"})
    oid = next(reversed(kept.commits)) if revision == "main" else revision
    if oid not in kept.commits:
        return handler.say(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
    if file not in kept.commits[oid]:
        return handler.say(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=oid)
    content = kept.commits[oid][file]
    digest = hashlib.sha1 if file.endswith(SMALL) else hashlib.sha256
    headers = {"X_Repo_Commit": oid, "ETag": f'"{digest(content).hexdigest()}"', "Accept_Ranges": "bytes"}
    if handler.server.xet:
        headers |= {"X_Xet_Hash": "a" * 64, "Link": f'<{handler.server.url}/xet-token>; rel="xet-auth"'}
    if handler.command == "GET" and handler.server.trouble == "another file":
        content = content[::-1]
    if handler.command == "GET" and handler.server.trouble == "truncates":
        handler.close_connection = True
        return handler.say(200, content[: len(content) // 2], **{**headers, "Content_Length": len(content)})
    handler.say(200, content, **headers)


def xet_token(handler: Handler, body: bytes) -> None:
    headers = {"X_Xet_Cas_Url": handler.server.url, "X_Xet_Access_Token": TOKEN}
    handler.say(200, {}, X_Xet_Token_Expiration=int(time.time()) + 3600, **headers)


def agents(handler: Handler, body: bytes) -> None:
    handler.say(200, {"standardEnvVars": ["AI_AGENT"], "harnesses": {}})


_REPO = r"(?P<repo>[^/]+/[^/]+?)"
ROUTES = [
    (("GET",), r"/api/agent-harnesses", agents),
    (("GET",), r"/xet-token", xet_token),
    (("POST",), r"/v1/telemetry", lambda handler, body: handler.say(200, {})),
    (("POST",), r"/api/repos/create", create),
    (("POST",), r"/api/validate-yaml", validate),
    (("POST",), rf"/api/models/{_REPO}/preupload/main", preupload),
    (("POST",), rf"/api/models/{_REPO}/commit/main", commit),
    (("GET",), rf"/api/models/{_REPO}", info),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", batch),
    (("PUT",), r"/large/(?P<oid>[0-9a-f]{64})", put),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", resolve),
]
