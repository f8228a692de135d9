"""Imports every module of the generated client, and uses it on a server: decisions and errors come as what they are.

Use: use.py URL OPERATOR_KEY
"""

import contextlib
import importlib
import pkgutil
import sys

import kavach_client
from kavach_client import AuthenticatedClient
from kavach_client.api.agents import create_agent, get_agent
from kavach_client.api.decisions import authorize
from kavach_client.models import AgentType, AuthorizeRequest, Code, NewAgent, NewPermission, Problem

for module in pkgutil.walk_packages(kavach_client.__path__, "kavach_client."):
    importlib.import_module(module.name)

url, key = sys.argv[1:]
with contextlib.ExitStack() as clients:

    def client(token):
        return clients.enter_context(AuthenticatedClient(base_url=url, token=token))

    operator = client(key)
    reads = NewPermission(resource="reports:*", actions=["read"])
    new = NewAgent(name="data-bot", owner_id="user-1", type_=AgentType.AUTONOMOUS, permissions=[reads])
    agent = create_agent.sync(client=operator, body=new)
    assert get_agent.sync(agent.id, client=operator).name == "data-bot", agent

    bot = client(agent.token)
    decision = authorize.sync(client=bot, body=AuthorizeRequest(action="read", resource="reports:q1"))
    assert decision.allowed, decision
    decision = authorize.sync(client=bot, body=AuthorizeRequest(action="delete", resource="reports:q1"))
    assert not decision.allowed and decision.code == Code.PERMISSION_DENIED, decision

    nobody = client("kvo_of-nobody-0123456789abcdef0123456789")
    for refused, status, code in [
        (authorize.sync_detailed(client=nobody, body=AuthorizeRequest(action="", resource="")), 401, Code.INVALID_TOKEN),
        (get_agent.sync_detailed("agt_" + 32 * "0", client=operator), 404, Code.AGENT_NOT_FOUND),
        (get_agent.sync_detailed(agent.id, client=bot), 403, Code.FORBIDDEN),
    ]:
        assert isinstance(refused.parsed, Problem), refused
        assert (refused.status_code, refused.parsed.status, refused.parsed.code) == (status, status, code), refused
