// The page: panels, language, colours, and who shows what.

import { key } from "./api.js";
import { $ } from "./dom.js";
import * as explaining from "./explain.js";
import * as live from "./live.js";
import * as models from "./models.js";
import { showAllRequests } from "./requests.js";
import * as similarity from "./similarity.js";
import { language, speak } from "./texts.js";

const LANGUAGE = "encserve.language";
const THEME = "encserve.theme";
const tabs = [...document.querySelectorAll("[role=tab]")];

function choose(tab, focus = false) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", `#${tab.id.replace("tab-", "")}`);
  if (tab.id === "tab-live") live.resume();
  else live.stop();
}

function startTabs() {
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  for (const [at, tab] of tabs.entries()) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : at + steps[event.key];
      if (Number.isNaN(to)) return;
      event.preventDefault();
      choose(tabs[(to + tabs.length) % tabs.length], true);
    });
  }
  choose($(`tab-${location.hash.slice(1)}`) ?? tabs[0]);
}

function startLanguage() {
  const select = $("language");
  const say = (name) => {
    speak(name);
    for (const part of [explaining, similarity, models, live]) part.show();
    showAllRequests();
  };
  select.value = localStorage.getItem(LANGUAGE) ?? language();
  say(select.value);
  select.addEventListener("change", () => {
    localStorage.setItem(LANGUAGE, select.value);
    say(select.value);
  });
}

function startTheme() {
  const select = $("theme");
  const paint = () => {
    document.documentElement.dataset.theme = select.value;
  };
  select.value = localStorage.getItem(THEME) ?? "system";
  paint();
  select.addEventListener("change", () => {
    localStorage.setItem(THEME, select.value);
    paint();
  });
}

function startKey() {
  $("key").value = key.get();
  const take = () => {
    key.set($("key").value.trim());
    load();
  };
  $("key").addEventListener("change", take);
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    take();
  });
}

const load = () => models.loadModels(explaining.useModels, similarity.useModels);

startTheme();
startLanguage();
startKey();
for (const part of [explaining, similarity, live]) part.start();
startTabs();
await load();
document.documentElement.dataset.ready = "";
