"""Checks messages with the library that Standard Webhooks publish for Python. Use: check.py messages.json"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

messages = json.load(open(sys.argv[1], encoding="utf-8"))
assert len(messages) == 3, "the test writes three"
for message in messages:
    webhook, body = Webhook(message["secret"]), message["body"]
    assert webhook.verify(body, message["headers"])["type"] == json.loads(body)["type"]
    for forged_body, forged_headers in [
        (body + " ", message["headers"]),
        (body, {**message["headers"], "webhook-id": "msg_0"}),
        (body, {**message["headers"], "webhook-timestamp": str(int(message["headers"]["webhook-timestamp"]) + 1)}),
    ]:
        try:
            webhook.verify(forged_body, forged_headers)
        except WebhookVerificationError:
            continue
        sys.exit("a forged message was accepted")
