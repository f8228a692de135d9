#!/usr/bin/env python3
"""Makes a golden directory: starts a server, fills it over HTTP, and writes down what it answered.

Use: tests/golden/make.py PROGRAM FOLDER

It needs libfaketime, and runs the server in March 2024. So on any machine that runs the tests, whatever was to expire
has expired, and no day or month of a budget is the current one.
"""

import atexit
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

FAKETIME = os.environ.get("FAKETIME_LIB", "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
# Days and months after which every budget begins anew.
LATER = "2024-06-20 12:00:00"


class Server:
    """A running server, with its clock at that time."""

    def __init__(self, program, data, clock, operator_key=None):
        env = {name: value for name, value in os.environ.items() if not name.startswith("KAVACH_")}
        env |= {"LD_PRELOAD": FAKETIME, "FAKETIME": f"@{clock}", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "TZ": "UTC"}
        if operator_key:
            env["KAVACH_OPERATOR_KEY"] = operator_key
        command = [program, "--addr", "127.0.0.1:0", "--data-dir", str(data), "--trusted-proxies", "127.0.0.1"]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        self.key, self.base = operator_key, None
        while not (self.base and self.key):
            line = self.process.stdout.readline()
            assert line, "the server ended"
            if found := re.search(r"kvo_[\w-]+", line):
                self.key = found[0]
            if line.startswith("Listening on "):
                self.base = line.removeprefix("Listening on ").strip()

    def ask(self, method, path, body=None, key=None, headers=()):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"} | dict(headers)
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as problem:
            status, text = problem.code, problem.read()
        return status, json.loads(text) if text else None

    def do(self, method, path, body=None, **options):
        """A request that has to succeed."""
        status, answer = self.ask(method, path, body, **options)
        assert status < 300, (method, path, body, status, answer)
        return answer

    def get(self, path):
        return self.do("GET", path)

    def post(self, path, body=None, **options):
        return self.do("POST", path, {} if body is None else body, **options)

    def tenant(self, slug, **fields):
        return self.post("/v1/tenants", {"name": slug.title(), "slug": slug, **fields})["id"]

    def agent(self, tenant, name, permissions, **fields):
        body = {"tenantId": tenant, "ownerId": "user-1", "name": name, "type": "service", "permissions": permissions}
        made = self.post("/v1/agents", body | fields)
        return made["id"], made["token"]

    def decide(self, key, code, action="read", resource="docs:1", headers=(), **fields):
        """Asks as that agent, and expects that code; `None` is a yes. Returns the audit id."""
        answer = self.post("/v1/authorize", {"action": action, "resource": resource, **fields}, key=key, headers=headers)
        assert answer.get("code") == code, answer
        return answer["auditId"]

    def policy(self, tenant, limits, action, **fields):
        return self.post("/v1/policies", {"tenantId": tenant, "limits": limits, "action": action, **fields})["id"]

    def delegate(self, giver, taker, permissions, **fields):
        body = {"fromAgent": giver, "toAgent": taker, "permissions": permissions, **fields}
        return self.post("/v1/delegations", body)["id"]

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()


def permits(resource, *actions, **constraints):
    permission = {"resource": resource, "actions": list(actions) or ["read"]}
    return [permission | ({"constraints": constraints} if constraints else {})]


class Maker:
    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)
        self.data = pathlib.Path(tempfile.mkdtemp()) / "data"
        # Requests that the server has to answer like this at any later time: (key, method, path, body, status, code).
        self.calls = []
        # Requests that it has to answer like this a few minutes after the end.
        self.then = []
        self.tenants, self.delegates, self.initech = [], [], None
        atexit.register(shutil.rmtree, self.data.parent, ignore_errors=True)

    def years_ahead(self):
        """A directory whose server ran for a while with its clock years ahead."""
        s = self.start("2024-03-15 10:00:00")
        early = s.tenant("early")
        self.tenants += [None, early]
        _, token = s.agent(early, "reader", permits("docs:*"))
        s.policy(early, {"maxCallsPerDay": 4, "maxTokensCostPerMonth": 4}, "block")
        s.decide(token, None, tokensCost=0.5)
        s.stop()
        s = self.start("2094-07-01 10:00:00", s.key)
        for _ in range(4):
            s.decide(token, None, tokensCost=1)
        s.decide(token, "BUDGET_EXCEEDED")
        # With the right clock version 0.1 would deny it for 70 years.
        self.later(token, None, tokensCost=1)
        self.write("ahead", signal.SIGTERM, later_clock="2094-09-01 12:00:00")

    def start(self, clock, key=None):
        self.clock = clock
        self.server = Server(self.program, self.data, clock, key)
        return self.server

    def later(self, key, code, method="POST", path="/v1/authorize", status=200, soon=False, **body):
        """What that key gets at any later time, or if `soon`, a few minutes later. `code` is `None` for a yes."""
        if path == "/v1/authorize":
            body = {"action": "read", "resource": "docs:1"} | body
        call = {"key": key, "method": method, "path": path, "body": body or None, "status": status, "code": code}
        (self.then if soon else self.calls).append(call)

    def first_run(self):
        s = self.start("2024-03-15 10:00:00")
        # The default tenant.
        default, token = s.agent(None, "helper", permits("docs:*"))
        s.decide(token, None)
        s.decide(token, "PERMISSION_DENIED", action="write")
        s.policy(None, {"maxTokensCostPerMonth": 100}, "block")
        s.decide(s.key, None, agentId=default, tokensCost=1.5)
        self.later(token, None)
        self.acme()
        self.globex()
        self.initech, self.busy = self.busy_tenant()
        # A tenant that is erased.
        hooli = s.tenant("hooli")
        _, token = s.agent(hooli, "gone", permits("docs:*"))
        s.decide(token, None)
        s.do("DELETE", "/v1/tenants/hooli?confirm=hooli")
        self.later(token, "INVALID_TOKEN", status=401)
        self.later(None, "TENANT_NOT_FOUND", "GET", "/v1/tenants/hooli", 404)
        s.post("/v1/snapshot")
        self.after_the_snapshot()

    def acme(self):
        s = self.server
        kinds = ["autonomous", "delegated", "service"]
        settings = {"maxAgents": 200, "maxDelegationDepth": 4, "auditRetentionDays": 36500, "allowedAgentTypes": kinds}
        acme = s.tenant("acme", settings=settings)
        self.tenants += [None, acme]
        s.do("PATCH", "/v1/tenants/acme", {"name": "Acme, Inc."})
        made = s.post("/v1/tenants/acme/keys", {"name": "ci"})
        key = made["key"]
        old = s.post("/v1/tenants/acme/keys", {"name": "old"})
        s.do("DELETE", f"/v1/tenants/acme/keys/{old['id']}")
        self.later(key, None, "GET", "/v1/agents")
        self.later(old["key"], "INVALID_TOKEN", "GET", "/v1/agents", 401)

        # One of each life.
        metadata = {"team": "data", "nested": {"list": [1, 2.5, None]}}
        reader, token = s.agent(acme, "reader", permits("docs:*", "read", "list"), type="autonomous", metadata=metadata)
        self.later(token, None)
        self.later(token, "PERMISSION_DENIED", action="drop")
        self.later(key, None, agentId=reader, resource="docs:a:b")
        expired, token = s.agent(acme, "expired", permits("docs:*"), expiresAt="2024-03-15T10:30:00Z")
        s.decide(token, None)
        self.later(token, "AGENT_EXPIRED")
        lasting, token = s.agent(acme, "lasting", permits("docs:*"), expiresAt="2190-01-01T00:00:00Z")
        self.later(token, None)
        revoked, token = s.agent(acme, "revoked", permits("docs:*"))
        s.do("DELETE", f"/v1/agents/{revoked}")
        s.decide(s.key, "AGENT_REVOKED", agentId=revoked)
        self.later(token, "AGENT_REVOKED")
        for name, grace in [("graced", {"graceSeconds": 3600}), ("rotated", {})]:
            agent, first = s.agent(acme, name, permits("docs:*"))
            second = s.post(f"/v1/agents/{agent}/rotate", grace)["token"]
            if grace:
                s.decide(first, None)
                self.later(first, None, soon=True)
            s.decide(second, None)
            self.later(first, "INVALID_TOKEN", status=401)
            self.later(second, None)
        changed, token = s.agent(acme, "changed", permits("docs:*"), ownerId="user-2")
        s.do("PATCH", f"/v1/agents/{changed}", {"name": "renamed", "ownerId": "user-3", "permissions": permits("mail:*")})
        self.later(token, "PERMISSION_DENIED")
        self.later(token, None, resource="mail:1")

        self.constraints(acme)
        if self.folder.name == "0.1":
            self.spellings(acme)
        self.delegations(acme, key, reader)
        self.budgets(acme, key)

    def constraints(self, acme):
        s = self.server
        # Together they cover the day, whenever it is asked.
        day = permits("docs:*", timeWindow={"start": "00:00", "end": "12:01"})
        day += permits("docs:*", timeWindow={"start": "12:00", "end": "00:01"})
        guarded, token = s.agent(
            acme,
            "guarded",
            [
                *day,
                *permits("files:*", "*", allowedArgPatterns=["/srv/data/**", "^v[0-9]+$"], maxCallsPerHour=1000),
                *permits("net:*", "*", ipAllowlist=["198.51.100.0/24", "2001:db8::1"]),
                *permits("site:*", "publish", requireApproval=True),
                *permits("none:*", "*", maxCallsPerHour=0),
                *permits("all:*:x", "*", maxCallsPerHour=5, allowedArgPatterns=["*"], ipAllowlist=["10.0.0.0/8"],
                         timeWindow={"start": "22:00", "end": "06:30"}, requireApproval=False),
            ],
        )
        address = {"X-Forwarded-For": "198.51.100.7"}
        trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "User-Agent": "agent/1.0"}
        s.decide(token, None)
        s.decide(token, None, resource="files:1", arguments={"path": "/srv/data/a/b", "tag": "v7"}, headers=trace)
        s.decide(token, "ARGUMENT_NOT_ALLOWED", resource="files:1", arguments={"path": "/etc/passwd"})
        s.decide(token, None, resource="net:1", headers=address)
        s.decide(token, "IP_NOT_ALLOWED", resource="net:1", headers={"X-Forwarded-For": "203.0.113.9"})
        s.decide(token, "REQUIRES_APPROVAL", action="publish", resource="site:1")
        s.decide(token, "RATE_LIMITED", resource="none:1")
        s.decide(token, "OUTSIDE_TIME_WINDOW", resource="all:1:x", arguments={"a": "b"})
        self.later(token, None)
        self.later(token, None, resource="files:1", arguments={"path": "/srv/data/a/b", "tag": "v7"})
        self.later(token, "ARGUMENT_NOT_ALLOWED", resource="files:1", arguments={"path": "/etc/passwd"})
        self.later(s.key, None, agentId=guarded, resource="net:1", context={"ip": "2001:db8::1"})
        self.later(s.key, "IP_NOT_ALLOWED", agentId=guarded, resource="net:1", context={"ip": "203.0.113.9"})
        self.later(token, "REQUIRES_APPROVAL", action="publish", resource="site:1")
        self.later(token, "RATE_LIMITED", resource="none:1")
        _, token = s.agent(acme, "rated", permits("docs:*", maxCallsPerHour=1))
        s.decide(token, None)
        self.later(token, "RATE_LIMITED", soon=True)

    def spellings(self, acme):
        """Texts that were allowed once, and still have to be read."""
        s = self.server
        fields = {"ownerId": "Zoe\u0301 \u200b\u202e", "metadata": {"\u200b": "\u0301"}}
        patterns = ["[z-a]", "{a", "a\\", "^a|b$", "/srv/../x", "^(?s:.*)x$", "https://*.example.com/**"]
        _, token = s.agent(acme, "odd e\u0301\u200b", permits("caf\u0065\u0301:*", "re\u200bad"), **fields)
        s.decide(token, None, action="re\u200bad", resource="caf\u0065\u0301:1")
        s.policy(acme, {"maxCallsPerMonth": 100}, "block", userId=fields["ownerId"])
        _, token = s.agent(acme, "patterns", permits("docs:*", allowedArgPatterns=patterns))
        s.decide(token, None, arguments={"a": "a"})
        self.later(token, None, arguments={"a": "a"})
        self.later(token, "ARGUMENT_NOT_ALLOWED", arguments={"a": "c"})

    def delegations(self, acme, key, reader):
        s = self.server
        takers = [s.agent(acme, f"delegate-{n}", [], type="delegated") for n in range(5)]
        (first, first_token), (second, second_token), (third, third_token), (late, late_token), (_, none) = takers
        onward = permits("docs:shared:*", maxCallsPerHour=1000)
        s.delegate(reader, first, permits("docs:shared:*"), maxDepth=3, expiresAt="2190-01-01T00:00:00Z")
        s.delegate(first, second, onward)
        ended = s.delegate(reader, third, permits("docs:*"))
        s.delegate(reader, late, permits("docs:*"), expiresAt="2024-03-15T10:40:00Z")
        for token in (first_token, second_token, third_token, late_token):
            s.decide(token, None, resource="docs:shared:1")
        s.do("DELETE", f"/v1/delegations/{ended}", key=key)
        s.decide(third_token, "PERMISSION_DENIED", resource="docs:shared:1")
        for token, code in [(first_token, None), (second_token, None), (third_token, "PERMISSION_DENIED"),
                            (late_token, "PERMISSION_DENIED"), (none, "PERMISSION_DENIED")]:
            self.later(token, code, resource="docs:shared:1")
        self.later(second_token, "PERMISSION_DENIED", resource="docs:1")
        self.delegates = [first, second, third, late]

    def budgets(self, acme, key):
        s = self.server
        spender, token = s.agent(acme, "spender", permits("docs:*"), ownerId="spender")
        mine = {"agentId": spender}
        limits = {"maxCallsPerDay": 4, "maxCallsPerMonth": 1000, "maxTokensCostPerDay": 10, "maxTokensCostPerMonth": 20.5}
        s.policy(acme, limits, "throttle", **mine)
        s.policy(acme, {"maxTokensCostPerMonth": 1000}, "warn", userId="spender")
        emptied = s.policy(acme, {"maxCallsPerDay": 50}, "block", **mine)
        changed = s.policy(acme, {"maxCallsPerDay": 50}, "block", **mine)
        s.do("PATCH", f"/v1/policies/{changed}", {"limits": {"maxCallsPerDay": 60}, "action": "warn", "status": "disabled"})
        gone = s.policy(acme, {"maxCallsPerDay": 0}, "block")
        s.do("DELETE", f"/v1/policies/{gone}")
        own = s.post("/v1/policies", {"agentId": spender, "limits": {"maxCallsPerMonth": 7}, "action": "block"}, key=key)
        self.later(None, None, "GET", f"/v1/policies/{gone}", 404)
        first = s.decide(token, None, tokensCost=1)
        second = s.decide(token, None, tokensCost=2.25)
        self.unsettled = s.decide(token, None, tokensCost=0.5)
        s.post("/v1/usage", {"agentId": spender, "auditId": first, "tokensCost": 0.5}, key=key)
        s.post("/v1/usage", {"agentId": spender, "auditId": second, "tokensCost": 3.000001}, key=key)
        s.post(f"/v1/policies/{emptied}/reset", {"period": "day"})
        s.post("/v1/usage", {"agentId": spender, "calls": 1, "tokensCost": 0.125})
        denied = s.decide(token, "BUDGET_EXCEEDED", tokensCost=1)
        usage = dict(method="POST", path="/v1/usage", agentId=spender)
        self.later(key, None, auditId=first, tokensCost=0.5, **usage)
        self.later(key, "ALREADY_SETTLED", auditId=first, tokensCost=0.75, status=409, **usage)
        self.later(key, "NOT_SETTLEABLE", auditId=denied, tokensCost=0.75, status=409, **usage)
        self.later(token, "BUDGET_EXCEEDED", soon=True)
        # Later its day is over, and it begins anew.
        self.later(token, None)
        # These two stay as they are: one is never enough, one has revoked.
        blocked, token = s.agent(acme, "blocked", permits("docs:*"), ownerId="blocked")
        s.policy(acme, {"maxCallsPerMonth": 0}, "block", agentId=blocked)
        s.decide(token, "BUDGET_EXCEEDED")
        self.later(token, "BUDGET_EXCEEDED")
        fired, token = s.agent(acme, "fired", permits("docs:*"), ownerId="fired")
        s.policy(acme, {"maxCallsPerDay": 1}, "revoke", agentId=fired)
        s.decide(token, None)
        s.decide(token, "BUDGET_EXCEEDED")
        self.later(token, "AGENT_REVOKED")
        self.later(None, None, "GET", f"/v1/policies/{own['id']}")
        self.spender = spender

    def globex(self):
        s = self.server
        globex = s.tenant("globex", settings={"maxAgents": 5})
        self.tenants.append(globex)
        key = s.post("/v1/tenants/globex/keys", {"name": "first"})["key"]
        agents = [s.agent(globex, f"worker-{n}", permits("docs:*")) for n in range(2)]
        taker, taken = s.agent(globex, "taker", [])
        s.delegate(agents[0][0], taker, permits("docs:shared:*"))
        s.policy(globex, {"maxTokensCostPerMonth": 5}, "block")
        for _, token in agents:
            s.decide(token, None, tokensCost=0.5)
        s.decide(taken, None, resource="docs:shared:1")
        s.post("/v1/tenants/globex/suspend")
        s.post("/v1/tenants/globex/activate")
        s.post("/v1/tenants/globex/suspend")
        s.decide(agents[0][1], "TENANT_SUSPENDED")
        for token in (agents[0][1], agents[1][1], taken):
            self.later(token, "TENANT_SUSPENDED")
        self.later(key, None, "GET", "/v1/agents")

    def busy_tenant(self):
        s = self.server
        initech = s.tenant("initech")
        self.tenants.append(initech)
        busy, token = s.agent(initech, "busy", permits("docs:*"))
        s.decide(token, None)
        self.later(token, None)
        return initech, token

    def after_the_snapshot(self):
        s = self.server
        late, token = s.agent("acme", "after", permits("docs:*"))
        s.decide(token, None)
        self.later(token, None)
        s.delegate(late, self.delegates[3], permits("docs:late:*"))
        second = s.post(f"/v1/agents/{late}/rotate", {"graceSeconds": 60})["token"]
        s.decide(second, None, tokensCost=0.25)
        self.later(second, None)
        self.calls = [call for call in self.calls if call["key"] != token]
        self.later(token, "INVALID_TOKEN", status=401)
        s.post("/v1/usage", {"agentId": self.spender, "auditId": self.unsettled, "tokensCost": 0.75})
        s.decide(self.busy, "PERMISSION_DENIED", action="drop")

    def fill_a_segment(self):
        """Calls until a segment is full and compressed: much on the way, little of it in the end."""
        s = self.server
        one = {"action": "read", "resource": "docs:1", "arguments": {"text": "x" * 32000}}
        segments = lambda end: len(list((self.data / self.initech).glob("*" + end)))
        while segments(".journal") + segments(".zst") < 2:
            s.post("/v1/authorize/batch", {"requests": [one] * 10}, key=self.busy)
            # A version with a log puts events into the folder only when somebody reads them.
            s.get(f"/v1/audit?tenantId={self.initech}&limit=1")
        while not segments(".zst"):
            time.sleep(0.05)
        for _ in range(3):
            s.decide(self.busy, None)

    def paths(self):
        """Everything that can be read, but for the trail of the tenant with the full segment."""
        yield "/v1/tenants"
        for tenant in self.tenants:
            name = tenant or "default"
            yield f"/v1/tenants/{name}"
            yield f"/v1/tenants/{name}/keys"
            for what in ("agents", "delegations", "policies"):
                yield f"/v1/{what}?tenantId={name}"
            if tenant != self.initech:
                for kind in ("decision", "usage", "admin"):
                    yield f"/v1/audit?tenantId={name}&kind={kind}&limit=1000"
        for agent in self.delegates:
            yield f"/v1/delegations/{agent}/permissions"

    def write(self, name, how, like=None, later_clock=LATER):
        """Ends the server, and keeps its directory and what it has to answer ever after. `like` names a directory whose
        expectations hold for this one too, where it has none of its own."""
        s, names = self.server, [tenant or "default" for tenant in self.tenants]
        checkpoints = {name: s.get(f"/v1/audit/checkpoint?tenantId={name}") for name in names}
        budgets = {path: s.get(path) for path in (f"/v1/policies?tenantId={name}" for name in names)}
        trail = {path: s.get(path) for path in self.paths() if "/audit" in path}
        s.stop(how)
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.data, place / "data")
        # What is to hold at any later time, the server says itself: months later, on a copy.
        copy = pathlib.Path(tempfile.mkdtemp()) / "data"
        shutil.copytree(self.data, copy)
        later = Server(self.program, copy, later_clock, s.key)
        reads = {path: later.get(path) for path in self.paths()}
        assert all(reads[path] == entries for path, entries in trail.items())
        exported = later.get(f"/v1/audit/export?tenantId={self.initech}") if self.initech else []
        busy = {"tenant": self.initech, "decisions": len(exported), "newest": exported[:-4:-1]}
        for call in self.calls if later_clock == LATER else []:
            status, answer = later.ask(call["method"], call["path"], call["body"], key=call["key"])
            code = answer.get("code") if isinstance(answer, dict) and (status == 200 or call["code"]) else None
            assert (status, code) == (call["status"], call["code"]), (call, status, answer)
        later.stop()
        shutil.rmtree(copy.parent)
        expected = {"operatorKey": s.key, "at": self.clock, "reads": reads, "calls": self.calls, "then": self.then,
                    "budgets": budgets, "checkpoints": checkpoints, "busy": busy}
        if like:
            base = json.loads((self.folder / like / "expected.json").read_text())
            reads = {path: answer for path, answer in reads.items() if answer != base["reads"][path]}
            expected = {name: value for name, value in expected.items() if value != base[name]}
            expected |= {"like": like, "reads": reads}
        (place / "expected.json").write_text(lines(expected) + "\n")


def lines(value, depth=2):
    """JSON with a line for each member of the upper levels."""
    if depth and value and isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        inner = ",\n".join((f"{json.dumps(name)}: " if name is not None else "") + lines(item, depth - 1) for name, item in pairs)
        return "{\n%s\n}" % inner if isinstance(value, dict) else "[\n%s\n]" % inner
    return json.dumps(value, separators=(",", ":"))


def main():
    program, folder = sys.argv[1:]
    maker = Maker(program, folder)
    maker.first_run()
    maker.write("killed", signal.SIGKILL)
    maker.start("2024-03-15 10:40:00", maker.server.key)
    maker.fill_a_segment()
    maker.write("clean", signal.SIGTERM, like="killed")
    if maker.folder.name == "0.1":
        Maker(program, folder).years_ahead()


main()
