// Small helpers for the page's elements. Texts are only ever put in as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// Run `work`, with its button out of use meanwhile; what fails is said in the panel.
export async function tried(panel, work) {
  const error = panel.querySelector(".error");
  const button = panel.querySelector("[type=submit]");
  error.hidden = true;
  if (button) button.disabled = true;
  try {
    await work();
    return true;
  } catch (failure) {
    error.textContent = failure.message;
    error.hidden = false;
    return false;
  } finally {
    if (button) button.disabled = false;
  }
}

export function fill(select, names) {
  const before = select.value;
  select.replaceChildren(...names.map(([value, shown]) => make("option", { value }, shown)));
  if (names.some(([value]) => value === before)) select.value = before;
}

// `strength` from -1 to 1 as a colour behind words, which stay readable on it.
export function tint(strength) {
  const alpha = Math.min(1, Math.abs(strength)) * 0.6;
  return `rgb(var(${strength < 0 ? "--against" : "--for"}) / ${alpha.toFixed(3)})`;
}
