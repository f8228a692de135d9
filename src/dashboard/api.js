// The server's HTTP API, for the key that signed in. The key is kept for this tab only.

const KEY = "kavach.key";

/** What the server refused, in its own words (RFC 9457). */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail ?? `the server answered ${status}`);
    this.status = status;
    this.code = body?.code ?? "";
    this.field = body?.details?.field ?? "";
    this.retryAfter = retryAfter;
  }
}

export const session = {
  /** Who signed in: `{kind: "operator", role, keyId}` or `{kind: "tenantKey", role, keyId, tenant}`. */
  who: null,
  /** Called when the key turns out to be no good. */
  onlost: () => {},
  get key() { return sessionStorage.getItem(KEY); },
  set key(text) { text === null ? sessionStorage.removeItem(KEY) : sessionStorage.setItem(KEY, text); },
  get isOperator() { return this.who?.kind === "operator"; },
  /** Whether the key may change what a tenant has. What it may not do is not offered; the server refuses it anyway. */
  get mayManage() { return this.who?.role === "admin"; },
  /** Whether it may change what belongs to the server: tenants, their settings, keys. */
  get mayOperate() { return this.isOperator && this.mayManage; },
};

/** Drops the answer to a call if its key is no longer the one that is signed in. */
function check(key) {
  if (session.key !== key) throw new DOMException("signed out", "AbortError");
}

async function call(method, path, { body, headers, signal } = {}) {
  const { key } = session;
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      headers: { Authorization: `Bearer ${key}`, ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    check(key);
    throw new Problem(0, { detail: "the server can't be reached", code: "UNREACHABLE" });
  }
  check(key);
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => null), response.headers.get("Retry-After"));
  if (response.status === 401) session.onlost(problem);
  throw problem;
}

async function json(method, path, options) {
  const { key } = session;
  const response = await call(method, path, options);
  const answer = response.status === 204 ? null : await response.json();
  check(key);
  return answer;
}

export const get = (path, options) => json("GET", path, options);
export const post = (path, body, options) => json("POST", path, { body, ...options });
/** With a `tag` of `getTagged`, the change is made only if nobody else made one since. */
export const patch = (path, body, tag) => json("PATCH", path, { body, headers: tag ? { "If-Match": tag } : {} });
export const remove = (path) => json("DELETE", path);

/** A thing that can be changed, with the tag of its version: `{found, tag}`. */
export async function getTagged(path, options) {
  const { key } = session;
  const response = await call("GET", path, options);
  const found = await response.json();
  check(key);
  return { found, tag: response.headers.get("ETag") };
}

/** `path` with a query string of the values that are given. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** A page of a list: `{items, next}`, where `next` is the path of the one behind it or null. */
export async function page(path, options) {
  const response = await call("GET", path, options);
  const next = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get("Link") ?? "");
  return { items: await response.json(), next: next ? next[1] : null };
}

/** All of a list up to `most` items. */
export async function all(path, most = 10000) {
  const items = [];
  for (let next = path; next && items.length < most;) {
    const part = await page(next);
    items.push(...part.items);
    next = part.next;
  }
  return items;
}

/** A download under the key, as a blob with its file name. */
export async function download(path) {
  const { key } = session;
  const response = await call("GET", path);
  const blob = await response.blob();
  check(key);
  const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "")?.[1] ?? "kavach-audit";
  return { blob, name };
}

/** Reads server-sent events (WHATWG HTML, 9.2.6) by fetch, since an EventSource can't send the key. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: null, data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) yield { id: event.id, data: event.data.join("\n") };
        event = { id: null, data: [] };
      } else if (line.startsWith("id: ")) event.id = line.slice(4);
      else if (line.startsWith("data: ")) event.data.push(line.slice(6));
    }
  }
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

/** Follows the audit stream until `signal` aborts, over broken connections too. `last` is the newest entry known. */
export async function follow(path, { last, signal, onentry, onstate }) {
  for (let wait = 500; !signal.aborted; wait = Math.min(wait * 2, 15000)) {
    try {
      const response = await call("GET", path, { signal, headers: last ? { "Last-Event-ID": last } : {} });
      onstate("live");
      for await (const event of events(response.body)) {
        wait = 500;
        last = event.id ?? last;
        onentry(JSON.parse(event.data));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    if (signal.aborted) return;
    onstate("reconnecting");
    await pause(wait, signal);
  }
}
