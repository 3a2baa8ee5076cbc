// How alike texts are, and which is nearest to what is looked for.

import { post } from "./api.js";
import { $, fill, make, tint, tried } from "./dom.js";
import { showRequest } from "./requests.js";
import { number, t } from "./texts.js";

const SHOWN_CHARS = 48;
let models = [];
let last;

export function useModels(served) {
  models = served.filter((model) => model.task === "embedding");
  fill($("similarity-model"), models.map((model) => [model.id, model.id]));
}

export function start() {
  $("similarity-form").addEventListener("submit", (event) => {
    event.preventDefault();
    compare();
  });
}

async function compare() {
  await tried($("panel-similarity"), async () => {
    if (!models.length) throw new Error(t("no_model"));
    const texts = $("similarity-texts").value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!texts.length) throw new Error(t("too_few"));
    const query = $("similarity-query").value.trim();
    const body = { input: query ? [...texts, query] : texts, model: $("similarity-model").value };
    showRequest("similarity", { path: "v1/embeddings", body });
    const answer = await post("v1/embeddings", body);
    const vectors = answer.data.map((entry) => scaled(entry.embedding));
    last = { texts, vectors: vectors.slice(0, texts.length), query: query && vectors.at(-1) };
    show();
  });
}

function scaled(vector) {
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}

function cosine(first, second) {
  return first.reduce((sum, value, at) => sum + value * second[at], 0);
}

// Again in another language.
export function show() {
  if (!last) return;
  const { texts, vectors, query } = last;
  $("search-result").hidden = !query;
  if (query) {
    const found = texts.map((text, at) => ({ text, score: cosine(query, vectors[at]) }));
    found.sort((one, other) => other.score - one.score);
    $("search-list").replaceChildren(...found.map(({ text, score }) =>
      make("li", {}, text, make("span", { class: "number" }, number(score)))));
  }
  const names = texts.map((text) => (text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}…` : text));
  const head = make("tr", {}, make("th", { scope: "col" }, t("text")),
    ...texts.map((text, at) => make("th", { scope: "col", class: "number", title: text }, String(at + 1))));
  const rows = names.map((name, row) =>
    make("tr", {}, make("th", { scope: "row" }, `${row + 1}. ${name}`),
      ...vectors.map((other) => cell(cosine(vectors[row], other)))));
  $("heat").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  $("similarity-result").hidden = false;
}

function cell(score) {
  const element = make("td", {}, number(score));
  element.style.backgroundColor = tint(score);
  return element;
}
