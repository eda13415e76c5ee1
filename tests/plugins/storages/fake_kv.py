"""Cloudflare's KV REST API over real HTTP, with its limits and its habits."""

import json
from urllib.parse import unquote

from aiohttp import web

TOKEN = "kv-token-for-tests"


class FakeKV:
    """One namespace. *trouble* is a status and body that every call gets while it is set."""

    def __init__(self):
        self.values, self.calls, self.missed, self.trouble = {}, [], set(), None
        self.page = 3

    def app(self):
        app = web.Application(client_max_size=30 * 2**20)
        app.router.add_route("*", "/client/v4/accounts/acc/storage/kv/namespaces/ns/{tail:.*}", self.answer)
        return app

    async def answer(self, request):
        what, _, name = request.raw_path.partition("?")[0].split("/namespaces/ns/")[1].partition("/")
        name = unquote(name)
        self.calls.append((request.method, what, name))
        if self.trouble:
            return web.Response(status=self.trouble[0], text=self.trouble[1])
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return failure(403, 10000, "Authentication error")
        if what == "keys":
            return self.list(request)
        return await getattr(self, f"{request.method.lower()}_{what}")(request, name)

    async def put_values(self, request, name):
        life = request.query.get("expiration_ttl")
        if life is not None and int(life) < 60:
            return failure(400, 10033, "expiration_ttl must be at least 60")
        form = await request.post()
        value, metadata = form["value"].file.read(), form["metadata"]
        if len(name.encode()) > 512 or len(value) > 25 * 2**20 or len(metadata) > 1024:
            return failure(400, 10030, "too long")
        # KV remembers that it has just said no; whoever looks before writing does not find what was written.
        assert name not in self.missed, "looked up before it was written"
        self.values[name] = (value, json.loads(metadata))
        return web.json_response({"success": True, "errors": [], "result": None})

    async def get_values(self, request, name):
        if name not in self.values:
            return self.missing(name)
        return web.Response(body=self.values[name][0], content_type="application/octet-stream")

    async def get_metadata(self, request, name):
        if name not in self.values:
            return self.missing(name)
        return web.json_response({"success": True, "errors": [], "result": self.values[name][1]})

    async def delete_values(self, request, name):
        self.values.pop(name, None)
        return web.json_response({"success": True, "errors": [], "result": None})

    def missing(self, name):
        return failure(404, 10009, f"get: '{name}' key not found")

    def list(self, request):
        prefix, start = request.query.get("prefix", ""), int(request.query.get("cursor") or 0)
        names = sorted(name for name in self.values if name.startswith(prefix))
        page = names[start : start + self.page]
        more = str(start + self.page) if start + self.page < len(names) else ""
        result = [{"name": name, "metadata": self.values[name][1]} for name in page]
        return web.json_response({"success": True, "result": result, "result_info": {"cursor": more}})


def failure(status, code, message):
    error = {"success": False, "errors": [{"code": code, "message": message}], "result": None}
    return web.json_response(error, status=status)
