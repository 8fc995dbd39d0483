// Building the page. Texts are always set as text: nothing that comes from the daemon is markup.

export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

export function table(caption, heads, rows, empty) {
  if (rows.length === 0) return h("p", { class: "faint" }, empty);
  const head = heads.map((text) => h("th", { scope: "col" }, text));
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("thead", null, h("tr", null, head)), h("tbody", null, rows)));
}

export const head = (title, ...buttons) => h("div", { class: "head" }, h("h2", null, title), buttons);

export function facts(pairs) {
  return h("dl", null, pairs.filter(([, value]) => value != null && value !== "")
    .map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

/** A button; `about` tells screen readers which of many it is. */
export function button(text, action, { about, kind } = {}) {
  const label = about ? `${text.replace("…", "").trim()} ${about}` : null;
  return h("button", { type: "button", class: kind ?? "", "aria-label": label, onclick: action }, text);
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

export function size(bytes) {
  let unit = 0, value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  const digits = unit === 0 || Number.isInteger(value) || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Bytes of a text like 10GiB; undefined if it is none. */
export function parseSize(text) {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:bytes|([KMGT])(?:iB)?)?\s*$/i.exec(text);
  if (!match) return undefined;
  const bytes = Number(match[1]) * 1024 ** ("KMGT".indexOf((match[2] ?? "").toUpperCase() || "-") + 1);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

export function time(text) {
  return text == null ? "" : new Date(text).toLocaleString();
}

export function duration(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
}

/** Says something that goes away by itself; with more than a text, some time after it has ended. */
export function say(...content) {
  const said = h("p", null, content);
  document.getElementById("said").append(said);
  const end = () => { setTimeout(() => said.remove(), 8000); };
  if (content.length === 1) end();
  return end;
}
