// What is served, with each model's card and report.

import { address, get, text } from "./api.js";
import { $, make, tried } from "./dom.js";
import { showRequest } from "./requests.js";
import { t } from "./texts.js";

let served = [];

// Ask for the models; those who show them are told.
export async function loadModels(...listeners) {
  await tried($("panel-models"), async () => {
    showRequest("models", { path: "v1/models" });
    served = (await get("v1/models")).data;
  });
  for (const listener of listeners) listener(served);
  show();
}

export function show() {
  $("model-list").replaceChildren(...served.map(card));
}

function card(model) {
  const facts = [
    ["version", model.version], ["task", model.task],
    ...(model.labels.length ? [["labels", model.labels.join(", ")]] : []),
    ...(model.dimensions ? [["dimensions", String(model.dimensions)]] : []),
    ["reads", t("tokens", { count: model.max_tokens })],
    ["digest", model.digest.slice(0, 19)],
  ];
  const place = make("div");
  const button = make("button", { type: "button", "aria-expanded": "false" }, t("card"));
  button.addEventListener("click", () => toggle(model, button, place));
  return make("article", { class: "card" },
    make("h3", {}, model.id),
    make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, t(name)), make("dd", {}, value)])),
    make("p", {}, button), place);
}

async function toggle(model, button, place) {
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  place.replaceChildren();
  if (open) return;
  const path = `v1/models/${encodeURIComponent(model.id)}`;
  try {
    const written = await text(`${path}/card`);
    const link = make("a", { href: address(`${path}/report`), target: "_blank", rel: "noopener" }, t("report"));
    place.append(make("p", {}, link), make("pre", { class: "card-text", tabindex: "0" }, written));
  } catch (failure) {
    place.append(make("p", { class: "note" }, failure.message));
  }
}
