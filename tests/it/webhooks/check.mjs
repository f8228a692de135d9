// Checks messages with the library that Standard Webhooks publish for JavaScript. Use: node check.mjs messages.json

import assert from "node:assert";
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const messages = JSON.parse(readFileSync(process.argv[2], "utf8"));
assert.equal(messages.length, 3, "the test writes three");
for (const { secret, headers, body } of messages) {
  const webhook = new Webhook(secret);
  assert.equal(webhook.verify(body, headers).type, JSON.parse(body).type);
  const later = String(Number(headers["webhook-timestamp"]) + 1);
  for (const [forgedBody, forgedHeaders] of [
    [`${body} `, headers],
    [body, { ...headers, "webhook-id": "msg_0" }],
    [body, { ...headers, "webhook-timestamp": later }],
  ]) {
    assert.throws(() => webhook.verify(forgedBody, forgedHeaders), /signature/i);
  }
}
