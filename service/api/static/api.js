// Asking the server; every failure is an Error whose message is a sentence for people.

import { t } from "./texts.js";

const KEY = "encserve.key";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

// A path of the server as seen from this page, which may lie behind a prefix.
export function address(path) {
  return new URL(path, document.baseURI).href;
}

async function fetched(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  let response;
  try {
    response = await fetch(address(path), { ...options, headers });
  } catch {
    throw new Error(t("unreachable"));
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Error(body.error?.message ?? `${response.status} ${response.statusText}`);
}

export async function post(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await fetched(path, options)).json();
}

export async function get(path) {
  return (await fetched(path)).json();
}

export async function text(path) {
  return (await fetched(path)).text();
}
