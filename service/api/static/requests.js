// What the page has asked, as a command or a program that asks the same.

import { address, key } from "./api.js";
import { make } from "./dom.js";
import { t } from "./texts.js";

const KEY_NAME = "ENCSERVE_KEY";

function shell(said) {
  return `'${said.replaceAll("'", `'\\''`)}'`;
}

// JSON is Python, too, but for these three words outside strings.
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${python(inner)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

const WRITERS = {
  curl({ path, body }) {
    const lines = [`curl ${shell(address(path))}`];
    if (key.get()) lines.push(`-H "Authorization: Bearer $${KEY_NAME}"`);
    if (body) lines.push("-H 'Content-Type: application/json'", `-d ${shell(JSON.stringify(body))}`);
    return lines.join(" \\\n  ");
  },
  Python({ path, body, plain }) {
    const headers = key.get() ? `, headers={"Authorization": "Bearer " + os.environ["${KEY_NAME}"]}` : "";
    const call = body ? `httpx.post(url, json=${python(body)}${headers})` : `httpx.get(url${headers})`;
    return [
      ...(key.get() ? ["import os", ""] : []),
      "import httpx", "", `url = ${JSON.stringify(address(path))}`, `response = ${call}`,
      "response.raise_for_status()", `print(response.${plain ? "text" : "json()"})`,
    ].join("\n");
  },
  JavaScript({ path, body, plain }) {
    const headers = [
      ...(body ? [`"Content-Type": "application/json"`] : []),
      ...(key.get() ? ["Authorization: `Bearer ${process.env." + KEY_NAME + "}`"] : []),
    ];
    const options = [
      ...(body ? [`  method: "POST",`] : []),
      ...(headers.length ? [`  headers: { ${headers.join(", ")} },`] : []),
      ...(body ? [`  body: JSON.stringify(${JSON.stringify(body)}),`] : []),
    ];
    const url = JSON.stringify(address(path));
    const call = options.length ? `fetch(${url}, {\n${options.join("\n")}\n})` : `fetch(${url})`;
    return [
      `const response = await ${call};`,
      "if (!response.ok) throw new Error(await response.text());",
      `console.log(await response.${plain ? "text" : "json"}());`,
    ].join("\n");
  },
};

let written = "curl";
const shown = new Map();

// Show `asked` ({path, body}, plain if the answer is no JSON) under the panel of that name.
export function showRequest(name, asked) {
  if (asked) shown.set(name, asked);
  const place = document.querySelector(`[data-request="${name}"]`);
  const request = shown.get(name);
  if (!request) return;
  const code = make("code", {}, WRITERS[written](request));
  const copy = make("button", { type: "button" }, t("copy"));
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    copy.textContent = t("copied");
  });
  const choices = Object.keys(WRITERS).map((writer) => {
    const button = make("button", { type: "button", "aria-pressed": String(writer === written) }, writer);
    button.addEventListener("click", () => {
      written = writer;
      showAllRequests();
      place.querySelector("[aria-pressed=true]").focus();
    });
    return button;
  });
  place.replaceChildren(
    make("div", { class: "row" }, make("strong", {}, t("request")), ...choices, copy),
    make("pre", { tabindex: "0" }, code),
  );
}

export function showAllRequests() {
  for (const name of shown.keys()) showRequest(name);
}
