// A label, its probability, and which words speak for it.

import { post } from "./api.js";
import { $, fill, make, tint, tried } from "./dom.js";
import { showRequest } from "./requests.js";
import { number, percent, t } from "./texts.js";

let models = [];
let last;

export function useModels(served) {
  models = served.filter((model) => model.task === "classification" && !model.reads_pairs);
  fill($("explain-model"), models.map((model) => [model.id, model.id]));
  useLabels();
}

function useLabels() {
  const model = models.find((one) => one.id === $("explain-model").value);
  const labels = (model?.labels ?? []).map((label) => [label, label]);
  fill($("explain-label"), [["", t("likeliest")], ...labels]);
}

export function start() {
  $("explain-model").addEventListener("change", useLabels);
  $("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    explain();
  });
  $("explain-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) explain();
  });
}

async function explain() {
  const panel = $("panel-explain");
  await tried(panel, async () => {
    if (!models.length) throw new Error(t("no_model"));
    const body = { input: $("explain-text").value, model: $("explain-model").value };
    if ($("explain-label").value) body.label = $("explain-label").value;
    showRequest("explain", { path: "v1/explain", body });
    $("explain-result").hidden = true;
    const answer = await post("v1/explain", body);
    last = { text: body.input, unit: answer.unit, found: answer.data[0] };
    show();
  });
}

// Again in another language.
export function show() {
  useLabels();
  if (!last) return;
  const { text, unit, found } = last;
  const valued = unit === "value";
  $("explain-verdict").textContent = valued
    ? t("verdict_value", { label: found.label, value: number(found.score) })
    : t("verdict", { label: found.label, percent: percent(found.score) });
  $("explain-words").replaceChildren(...coloured(text, found));
  $("explain-deletion").textContent = [
    ...(found.truncated ? [t("truncated", { tokens: models.find((one) => one.id === $("explain-model").value)?.max_tokens })] : []),
    ...(valued ? [] : [deletion(found)]),
  ].join(" ");
  $("explain-scores").replaceChildren(...(valued ? [] : bars(found.scores)));
  const { total, sum_of_weights: sum, gap } = found.completeness;
  $("explain-completeness").textContent = t(valued ? "value_completeness" : "completeness", {
    total: number(total), sum: number(sum), gap: number(gap),
  });
  $("explain-table").replaceChildren(...table(found));
  $("explain-result").hidden = false;
}

// The text, each word on the colour of its weight. Places are counted in code points.
function coloured(text, found) {
  const letters = Array.from(text);
  const strongest = Math.max(...found.words.map((word) => Math.abs(word.weight)), 1e-9);
  const removed = new Set((found.deletion?.removed ?? []).map((word) => word.start));
  const parts = [];
  let at = 0;
  for (const word of found.words) {
    parts.push(letters.slice(at, word.start).join(""));
    const mark = make("mark", { class: removed.has(word.start) && "flips", title: number(word.weight) }, word.text);
    mark.style.backgroundColor = tint(word.weight / strongest);
    parts.push(mark);
    at = word.end;
  }
  return [...parts, letters.slice(at).join("")];
}

function deletion(found) {
  if (!found.deletion) return t("no_deletion");
  const words = found.deletion.removed.map((word) => `“${word.text}”`).join(", ");
  return t("deletion", { words, label: found.deletion.label, percent: percent(found.deletion.score) });
}

function bars(scores) {
  return Object.entries(scores).flatMap(([label, score]) => [
    make("span", {}, label),
    make("meter", { min: 0, max: 1, value: score, "aria-label": label }),
    make("span", { class: "number" }, percent(score)),
  ]);
}

function table(found) {
  const head = ["word", "weight", "interaction"].map((name, column) =>
    make("th", { scope: "col", class: column > 0 && "number" }, t(name)));
  const rows = [...found.words, ...found.phrases].map((part) =>
    make("tr", {},
      make("td", {}, part.text),
      make("td", { class: "number" }, number(part.weight)),
      make("td", { class: "number" }, part.interaction === undefined ? "" : number(part.interaction))));
  return [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)];
}
