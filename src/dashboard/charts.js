// Charts as SVG. The arrow keys move a chart's cursor, and the text below shows the values there.

import { h, s, show } from "./dom.js";
import { clock, count } from "./format.js";

const HEIGHT = 150;
const LEFT = 40;
const BOTTOM = 20;

/** The results of decisions over time: `[member of the statistics, label, class]`. */
export const RESULTS = [["allowed", "Allowed", "s-ok"], ["denied", "Denied", "s-bad"], ["rateLimited", "Rate-limited", "s-warn"]];

/** The colours' meaning. */
export const legend = () => h("div", { class: "legend" }, RESULTS.map(([, label, kind]) =>
  h("span", {}, s("svg", { viewBox: "0 0 9 9", "aria-hidden": "true" }, s("rect", { class: kind, width: 9, height: 9, rx: 2 })), label)));

/** The next number that is one of `steps`, which end with 10, times a power of ten. */
export function roundUp(n, steps = [1, 2, 4, 5, 10]) {
  const power = 10 ** Math.floor(Math.log10(n));
  return steps.map((step) => step * power).find((top) => top >= n);
}

/** The top of an axis of counts: at least 4, so that its middle is a whole number. */
const ceiling = (n) => (n <= 4 ? 4 : roundUp(n));

/**
 * Stacked bars. `update({bars, series, unknown, tick, say, amount})` draws them anew: so many `bars`, for each series
 * `[class, values]`, the first `unknown` of which are not known. `tick(i)` is the text below a bar, `say(i)` what the
 * readout shows of it, or of all with `null`, and `amount(n)` a number as text.
 */
export function barChart(label) {
  const box = h("div", { class: "chart", role: "img", tabindex: "0" });
  const readout = h("div", { class: "readout", "aria-live": "off" });
  let data = null, at = null, geometry = null;

  const draw = () => {
    const width = box.clientWidth;
    if (!data || !width) return;
    const { bars, series, unknown, tick, amount } = data;
    const sums = Array.from({ length: bars }, (_, i) => series.reduce((sum, [, values]) => sum + values[i], 0));
    const top = data.ceiling(Math.max(0, ...sums));
    const slot = (width - LEFT) / bars;
    const y = (value) => (HEIGHT - BOTTOM) * (1 - value / top) + 8 * (value / top);
    const svg = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, "aria-hidden": "true" });
    for (const line of [0, top / 2, top]) {
      svg.append(s("line", { class: "grid-line", x1: LEFT, x2: width, y1: y(line), y2: y(line) }), s("text", { x: LEFT - 8, y: y(line) + 4, "text-anchor": "end" }, amount(line)));
    }
    if (unknown) {
      svg.append(s("rect", { class: "unknown", x: LEFT, width: unknown * slot, y: 8, height: HEIGHT - BOTTOM - 8 }));
      if (unknown * slot > 80) svg.append(s("text", { x: LEFT + unknown * slot / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "not known"));
    }
    const gap = slot > 20 ? slot / 5 : 1.5;
    for (let i = 0; i < bars; i += 1) {
      let below = 0;
      for (const [kind, values] of series) {
        const value = values[i];
        if (value > 0) svg.append(s("rect", { class: kind, x: LEFT + i * slot + gap / 3, width: Math.max(1, slot - gap), y: y(below + value), height: y(below) - y(below + value), rx: slot > 6 ? 1 : 0 }));
        below += value;
      }
    }
    for (const [i, anchor] of bars > 2 ? [[0, "start"], [Math.floor(bars / 2), "middle"], [bars - 1, "end"]] : [[0, "start"]]) {
      svg.append(s("text", { x: LEFT + (i + (anchor === "start" ? 0 : anchor === "end" ? 1 : 0.5)) * slot, y: HEIGHT - 3, "text-anchor": anchor }, tick(i)));
    }
    if (at !== null) svg.append(s("rect", { class: "cursor", x: LEFT + at * slot, width: slot, y: 8, height: HEIGHT - BOTTOM - 8 }));
    geometry = { slot, bars };
    show(box, svg);
  };
  const say = () => show(readout, data.say(at));
  const move = (to) => {
    at = to === null || !geometry ? null : Math.max(0, Math.min(geometry.bars - 1, to));
    draw();
    say();
  };
  box.addEventListener("pointermove", (event) => geometry && move(Math.floor((event.clientX - box.getBoundingClientRect().left - LEFT) / geometry.slot)));
  box.addEventListener("pointerleave", () => data && move(null));
  box.addEventListener("blur", () => { readout.setAttribute("aria-live", "off"); if (data) move(null); });
  box.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !geometry) return;
    event.preventDefault();
    readout.setAttribute("aria-live", "polite");
    move((at ?? geometry.bars) + by);
  });
  new ResizeObserver(draw).observe(box);
  const update = (next) => {
    data = { unknown: 0, amount: count, ceiling, ...next };
    if (at !== null && at >= data.bars) at = null;
    draw();
    say();
    box.setAttribute("aria-label", `${label}. ${at === null ? readout.textContent : ""} Arrow keys read single values.`);
  };
  return { element: h("div", { class: "stack tight" }, box, readout), update };
}

/**
 * Decisions over time. `update({from, step, allowed, denied, rateLimited}, since)` draws them anew. What was before
 * `since` is not known, which is not the same as zero.
 */
export function timeChart(label, unit) {
  const chart = barChart(label);
  const update = (data, since) => {
    const bars = data.allowed.length;
    const begins = (i) => new Date(data.from).getTime() + i * data.step * 1000;
    const isKnown = (i) => begins(i + 1) > new Date(since).getTime();
    const started = `the server started at ${clock(since)}`;
    const tick = (i) => clock(begins(i)).slice(0, unit === "second" ? 8 : 5);
    const totals = RESULTS.map(([name, word]) => `${count(data[name].reduce((sum, value) => sum + value, 0))} ${word.toLowerCase()}`);
    chart.update({
      bars,
      series: RESULTS.map(([name, , kind]) => [kind, data[name]]),
      unknown: data.allowed.filter((_, i) => !isKnown(i)).length,
      tick,
      say: (at) => (at === null
        ? [totals.join(" · "), unit === "second" ? " in the last minute" : " in the last hour", bars > 0 && !isKnown(0) && `; before that not known: ${started}`]
        : [h("b", {}, tick(at)), " · ", !isKnown(at) ? `not known: ${started}` : RESULTS.map(([name, word]) => `${count(data[name][at])} ${word.toLowerCase()}`).join(" · ")]),
    });
  };
  return { element: chart.element, update };
}

/**
 * Places of a graph without cycles in layers (after Sugiyama, Tagawa, Toda: Methods for Visual Understanding of
 * Hierarchical System Structures, 1981): each node stands right of all that lead to it, and an edge that passes a layer
 * has a place of its own there. `bends` are the edges' places between their ends.
 */
export function layers(nodes, edges) {
  const depth = new Map(nodes.map((node) => [node, 0]));
  // No chain is longer than the number of nodes.
  for (let round = 0; round < nodes.length; round += 1) {
    let moved = false;
    for (const [from, to] of edges) {
      if (depth.get(to) < depth.get(from) + 1) { depth.set(to, depth.get(from) + 1); moved = true; }
    }
    if (!moved) break;
  }
  const columns = [];
  const before = new Map();
  const put = (item, x, from) => {
    if (!before.has(item)) { before.set(item, []); (columns[x] ??= []).push(item); }
    if (from !== undefined) before.get(item).push(from);
  };
  for (const node of nodes) put(node, depth.get(node));
  const chains = edges.map(([from, to]) => {
    const chain = [];
    for (let x = depth.get(from) + 1; x < depth.get(to); x += 1) {
      const bend = { x };
      put(bend, x, chain.at(-1) ?? from);
      chain.push(bend);
    }
    put(to, depth.get(to), chain.at(-1) ?? from);
    return chain;
  });
  const place = new Map();
  columns.forEach((column, x) => {
    // Sorted by where their edges come from, so that few edges cross.
    const weight = (item) => before.get(item).reduce((sum, from) => sum + place.get(from)[1], 0) / (before.get(item).length || 1);
    const ordered = x === 0 ? column : column.map((item) => [weight(item), item]).sort((a, b) => a[0] - b[0]).map(([, item]) => item);
    ordered.forEach((item, y) => place.set(item, [x, y]));
  });
  return { place, bends: chains, width: columns.length, height: Math.max(...columns.map((column) => column.length)) };
}

const NODE = { width: 176, height: 46, across: 86, down: 20 };

/** Who lends to whom: `nodes` are `{id, name, sub, off, href}`, `edges` are `{from, to, label}`. */
export function graph(nodes, edges, label) {
  const { place, bends, width, height } = layers(nodes.map((node) => node.id), edges.map((edge) => [edge.from, edge.to]));
  const x = (id) => 4 + place.get(id)[0] * (NODE.width + NODE.across);
  const y = (id) => 4 + place.get(id)[1] * (NODE.height + NODE.down);
  const size = [width * (NODE.width + NODE.across) - NODE.across + 8, height * (NODE.height + NODE.down) - NODE.down + 8];
  const svg = s("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, width: size[0], height: size[1], role: "group", "aria-label": label });
  svg.append(s("defs", {}, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { class: "arrow", d: "M0 0 8 4 0 8z" }))));
  const lines = edges.map((edge, n) => {
    const middle = (item) => y(item) + NODE.height / 2;
    let path = `M${x(edge.from) + NODE.width} ${middle(edge.from)}`;
    let [atX, atY] = [x(edge.from) + NODE.width, middle(edge.from)];
    const curve = (toX, toY) => {
      const bend = (toX - atX) / 2;
      path += ` C${atX + bend} ${atY} ${toX - bend} ${toY} ${toX} ${toY}`;
      [atX, atY] = [toX, toY];
    };
    for (const bend of bends[n]) {
      curve(x(bend), middle(bend));
      path += ` H${atX += NODE.width}`;
    }
    curve(x(edge.to) - 2, middle(edge.to));
    const line = s("path", { class: "edge", d: path, "marker-end": "url(#arrow)" }, s("title", {}, edge.label));
    svg.append(line);
    return [edge, line];
  });
  for (const node of nodes) {
    const light = (on) => lines.forEach(([edge, line]) => { if (edge.from === node.id || edge.to === node.id) line.classList.toggle("on", on); });
    const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
    svg.append(s("a", { href: node.href, "aria-label": `${node.name}: ${node.sub}`, onpointerenter: () => light(true), onpointerleave: () => light(false), onfocus: () => light(true), onblur: () => light(false) },
      s("title", {}, node.name),
      s("g", { class: node.off ? "node off" : "node", transform: `translate(${x(node.id)} ${y(node.id)})` },
        s("rect", { width: NODE.width, height: NODE.height, rx: 7 }),
        s("text", { x: 12, y: 20 }, cut(node.name, 21)), s("text", { class: "sub", x: 12, y: 36 }, cut(node.sub, 27)))));
  }
  return h("div", { class: "graph" }, svg);
}
