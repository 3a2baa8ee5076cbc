// The server's load, from its own metrics.

import { text } from "./api.js";
import { $, make, tried } from "./dom.js";
import { showRequest } from "./requests.js";
import { number, percent, t } from "./texts.js";

const EVERY_MS = 2000;
const WINDOW = 15; // looks: half a minute
const POINTS = 60;
const ANSWERS = /^\/(v1|v2|embed|predict|rerank|similarity|invocations|$)/;
const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

const looks = [];
const drawn = new Map();
let timer;

export function start() {
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : resume()));
}

export function resume() {
  if (timer || document.hidden || $("panel-live").hidden) return;
  look();
  timer = setInterval(look, EVERY_MS);
}

export function stop() {
  clearInterval(timer);
  timer = undefined;
}

async function look() {
  showRequest("metrics", { path: "metrics", plain: true });
  const seen = await tried($("panel-live"), async () => {
    looks.push({ at: performance.now() / 1000, samples: parsed(await text("metrics")) });
    if (looks.length > WINDOW + 1) looks.shift();
    show();
  });
  if (!seen) stop();
}

export function parsed(page) {
  const samples = [];
  for (const line of page.split("\n")) {
    const match = SAMPLE.exec(line);
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map((one) => [one[1], one[2]]));
    samples.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return samples;
}

function sum(look, name, wanted = () => true) {
  return look.samples.filter((one) => one.name === name && wanted(one.labels)).reduce((total, one) => total + one.value, 0);
}

const answers = (labels) => ANSWERS.test(labels.endpoint) && labels.model !== "";

function rate(name, wanted) {
  const [last, before] = [looks.at(-1), looks.at(-2) ?? looks.at(-1)];
  const seconds = last.at - before.at;
  return seconds ? (sum(last, name, wanted) - sum(before, name, wanted)) / seconds : 0;
}

// Of the requests since the oldest look; the bucket's upper bound, as they lie no nearer.
function quantileMs(share) {
  const counts = new Map();
  for (const [sign, look] of [[1, looks.at(-1)], [-1, looks[0]]]) {
    for (const one of look.samples) {
      if (one.name !== "encserve_request_duration_seconds_bucket" || !answers(one.labels)) continue;
      const bound = Number(one.labels.le.replace("+Inf", "Infinity"));
      counts.set(bound, (counts.get(bound) ?? 0) + sign * one.value);
    }
  }
  const all = counts.get(Infinity) ?? 0;
  if (!all) return undefined;
  const bounds = [...counts.keys()].sort((one, other) => one - other);
  return 1000 * bounds.find((bound) => counts.get(bound) >= share * all);
}

function gauges() {
  const [last, first] = [looks.at(-1), looks[0]];
  const grown = (name, wanted) => sum(last, name, wanted) - sum(first, name, wanted);
  const runs = grown("encserve_batch_texts_count");
  const tokens = grown("encserve_tokens_total");
  const padding = grown("encserve_tokens_total", (labels) => labels.kind === "padding");
  const ms = (value) => (value === undefined ? t("none") : Number.isFinite(value) ? t("ms", { value: number(value, value < 10 ? 1 : 0) }) : "∞");
  const [p50, p99] = [quantileMs(0.5), quantileMs(0.99)];
  const waiting = sum(last, "encserve_queue_texts");
  const busy = sum(last, "encserve_workers_busy");
  const requests = rate("encserve_requests_total", answers);
  const texts = rate("encserve_texts_total");
  return [
    ["requests", requests, number(requests, 1)],
    ["texts", texts, number(texts, 1)],
    ["p50", p50, ms(p50)],
    ["p99", p99, ms(p99)],
    ["queue", waiting, number(waiting, 0)],
    ["fill", runs ? grown("encserve_batch_texts_sum") / runs : undefined, runs ? number(grown("encserve_batch_texts_sum") / runs, 1) : t("none")],
    ["padding", tokens ? padding / tokens : undefined, tokens ? percent(padding / tokens) : t("none")],
    ["workers", busy, `${number(busy, 0)} / ${number(sum(last, "encserve_workers"), 0)}`],
  ];
}

export function show() {
  if (!looks.length) return;
  $("gauges").replaceChildren(...gauges().map(([name, value, shown]) => {
    const points = [...(drawn.get(name) ?? []), Number.isFinite(value) ? value : 0].slice(-POINTS);
    drawn.set(name, points);
    return make("article", { class: "card", "data-gauge": name },
      make("h3", {}, t(name)), make("p", { class: "big" }, shown), line(points));
  }));
}

function line(points) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const most = Math.max(...points, 1e-9);
  const polyline = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const from = POINTS - points.length;
  polyline.setAttribute("points", points.map((value, at) => `${from + at},${96 - (92 * value) / most}`).join(" "));
  svg.append(polyline);
  return svg;
}
