// A form that calls an operation, and shows the answer and the command that would do the same.

import { append, h, show, uid } from "./dom.js";
import { exampleOf } from "./docs-schema.js";

/** Characters of an answer that are shown. */
const SHOWN = 200_000;

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** What the form says to send. */
function request(operation, fields, body) {
  let path = operation.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of fields) {
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value === "") continue;
    else if (parameter.in === "query") query.set(parameter.name, input.value);
    else headers[parameter.name] = input.value;
  }
  const text = body?.value.trim() ? body.value : undefined;
  if (text !== undefined) headers["Content-Type"] = "application/json";
  return { url: path + (query.size ? `?${query}` : ""), method: operation.method.toUpperCase(), headers, body: text };
}

/** The same as a command. It holds no key. */
function curl({ url, method, headers, body }, takesKey) {
  const lines = [`curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(location.origin + url)}`];
  if (takesKey) lines.push(`-H "Authorization: Bearer $KAVACH_KEY"`);
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body !== undefined) lines.push(`-d ${quoted(body)}`);
  return lines.join(" \\\n  ");
}

/** Text to read, of an answer that may have no end. */
async function read(answer, showText) {
  const reader = answer.body?.getReader();
  if (!reader) return "";
  const decoder = new TextDecoder();
  let text = "";
  const streams = (answer.headers.get("content-type") ?? "").startsWith("text/event-stream");
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += decoder.decode(value, { stream: true });
    if (streams) showText(text.slice(-SHOWN));
  }
}

function pretty(text, media) {
  if (!/json$/.test(media.split(";")[0])) return text;
  try {
    // Numbers with more digits than a double has would change.
    return /\d{16}/.test(text) ? text : JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function fieldView(api, parameter) {
  const id = uid("parameter");
  const schema = parameter.schema.$ref ? api.components.schemas[parameter.schema.$ref.split("/").pop()] : parameter.schema;
  const props = { id, spellcheck: "false", autocomplete: "off", required: parameter.required };
  const input = schema?.enum
    ? h("select", props, h("option", { value: "" }, ""), schema.enum.map((name) => h("option", { value: name }, name)))
    : h("input", { ...props, placeholder: parameter.required ? "required" : "" });
  return { parameter, input, view: h("div", { class: "field" }, h("label", { for: id }, parameter.name), input) };
}

function bodyField(api, operation) {
  const examples = Object.entries(operation.requestBody?.content?.["application/json"]?.examples ?? {});
  if (!examples.length) return null;
  const id = uid("body");
  const texts = examples.map(([, example]) => JSON.stringify(exampleOf(api, example), null, 2));
  const rows = Math.min(16, texts[0].split("\n").length);
  const input = h("textarea", { id, spellcheck: "false", rows, value: texts[0] });
  const choice = examples.length > 1 && h("select", {
    "aria-label": "Example",
    onchange: (event) => { input.value = texts[event.target.selectedIndex]; },
  }, examples.map(([name]) => h("option", null, name)));
  return { input, view: h("div", { class: "field" }, h("div", { class: "bar" }, h("label", { for: id }, "Body"), choice), input) };
}

/** The form of an operation. `key` answers the key to send, `say` tells it to a screen reader. */
export function tryIt(api, operation, key, say) {
  const takesKey = operation.security.length > 0;
  const fields = (operation.parameters ?? []).map((parameter) => fieldView(api, parameter));
  const body = bodyField(api, operation);
  const command = h("pre", { tabindex: 0 });
  const result = h("div", { class: "result" });
  const current = () => request(operation, fields, body?.input);
  const showCommand = () => { command.textContent = curl(current(), takesKey); };
  const copy = h("button", {
    type: "button",
    class: "small-button",
    onclick: async () => {
      // Browsers allow the clipboard only to pages from localhost or over TLS.
      if (!navigator.clipboard) {
        getSelection().selectAllChildren(command);
        say("Press Ctrl C: this page may not copy by itself without TLS.");
        return;
      }
      await navigator.clipboard.writeText(command.textContent);
      copy.textContent = "Copied";
      say("The command was copied.");
      setTimeout(() => { copy.textContent = "Copy"; }, 2000);
    },
  }, "Copy");
  const send = h("button", { type: "submit", class: "primary" }, "Send");
  const stop = h("button", { type: "button", hidden: true }, "Stop");
  let sending = null;
  stop.addEventListener("click", () => sending?.abort());

  async function call(event) {
    event.preventDefault();
    const { url, method, headers, body: text } = current();
    const secret = key();
    if (takesKey && !secret) {
      show(result, h("p", { class: "problem" }, "Enter a key at the top of the page first."));
      document.getElementById("key").focus();
      return;
    }
    if (takesKey) headers.Authorization = `Bearer ${secret}`;
    sending = new AbortController();
    send.disabled = true;
    stop.hidden = false;
    const begun = performance.now();
    const shown = h("pre", { tabindex: 0 });
    try {
      const answer = await fetch(url, { method, headers, body: text, signal: sending.signal, cache: "no-store" });
      const waited = performance.now() - begun;
      const status = h("span", { class: `status s${String(answer.status)[0]}` }, String(answer.status));
      const lines = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      show(result,
        h("p", { class: "bar" }, status, h("span", null, `${waited.toFixed(1)} ms`)),
        h("details", null, h("summary", null, "Headers"), h("pre", { tabindex: 0 }, lines)),
        shown);
      say(`Answered with ${answer.status}.`);
      const all = pretty(await read(answer, (part) => { shown.textContent = part; }), answer.headers.get("content-type") ?? "");
      shown.textContent = all.length > SHOWN ? `${all.slice(0, SHOWN)}\n… ${all.length - SHOWN} more characters` : all;
      shown.hidden = all === "";
    } catch (problem) {
      if (problem.name === "AbortError") append(result, h("p", { class: "small" }, "Stopped."));
      else show(result, h("p", { class: "problem" }, `No answer: ${problem.message}`));
    } finally {
      send.disabled = false;
      stop.hidden = true;
      sending = null;
    }
  }

  const form = h("form", { class: "try", onsubmit: call, oninput: showCommand },
    h("h4", null, "Try it"),
    fields.length > 0 && h("div", { class: "fields" }, fields.map((field) => field.view)),
    body?.view,
    h("div", { class: "bar" }, send, stop),
    result,
    h("div", { class: "example" }, h("div", { class: "bar" }, "As a command", copy), command));
  showCommand();
  return form;
}
