// Dialogs: forms that change something, and details that are read.

import { get, Problem } from "./api.js";
import { button, h, say, time } from "./dom.js";

const dialog = document.getElementById("dialog");

function open(title, ...content) {
  dialog.replaceChildren(h("h2", { id: "dialog-title" }, title), h("div", null, content));
  dialog.showModal();
}

export function show(title, ...content) {
  open(title, ...content,
    h("div", { class: "buttons" }, button("Close", () => dialog.close(), { kind: "main" })));
}

/** Why something failed, as its CIM_Error says it. */
export function explain(error) {
  const actions = error.recommended_actions ?? [];
  return [
    h("p", null, error.message),
    actions.length > 0 && h("h3", null, "What can be done"),
    actions.length > 0 && h("ul", null, actions.map((action) => h("li", null, action))),
    h("p", { class: "faint" }, `Message ${error.message_id}`),
  ];
}

const OUTCOMES = {
  matched: (made) => `its data are those of ${made}`,
  made: () => "checksums of its data are kept",
  differed: (made) => `its data are not those of ${made}`,
  void: () => "it may have been written since its checksums were made: there was nothing to compare with",
  damaged: () => "its checksums are damaged: there was nothing to compare with",
  absent: () => "there are no checksums to compare its data with",
  "in-use": () => "checksums of a disk in use are not kept: its snapshots have some",
};

/** What a check has found out with checksums, in words; nothing for other jobs. */
export function compared(job) {
  const found = job.checksums;
  return found && OUTCOMES[found.state]?.(found.made ? time(found.made) : "before");
}

export function confirm(title, note, action, danger) {
  ask(title, [], title.replace("…", ""), action, { note, danger });
}

/** Shows how far a job is, until it has ended. */
async function watch(job) {
  const bar = h("progress", { max: 100, value: job.percent_complete, "aria-label": `Progress of ${job.name}` });
  const text = h("span", null, job.name);
  const end = say(h("a", { href: "#jobs" }, text), " ", bar);
  let now = job;
  while (!now.ended) {
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    try {
      now = await get("jobs", job.id);
    } catch {
      return end();
    }
    bar.value = now.percent_complete;
  }
  text.textContent = `${now.name}: ${now.state}`;
  const more = compared(now);
  if (more) text.textContent += `: ${more}`;
  if (now.errors.length > 0) text.textContent += `: ${now.errors[0].message}`;
  return end();
}

/** Fields: {name, label, hint, type, value, options, optional, parse}. */
export function ask(title, fields, verb, action, { danger, note } = {}) {
  const problem = h("div", { class: "problem", role: "alert" });
  const inputs = new Map();
  const parts = fields.map((field) => {
    const id = `field-${field.name}`;
    const hint = field.hint && h("p", { class: "hint", id: `${id}-hint` }, field.hint);
    const common = { id, name: field.name, "aria-describedby": field.hint ? `${id}-hint` : null };
    let input;
    if (field.options) {
      input = h("select", common, field.options.map(([value, text]) =>
        h("option", { value, selected: value === field.value }, text)));
    } else {
      input = h("input", { ...common, type: field.type ?? "text", value: field.value ?? null,
        required: !field.optional && field.type !== "checkbox", autocomplete: "off" });
    }
    inputs.set(field, input);
    if (field.type === "checkbox") return h("div", null, h("label", { for: id }, input, field.label), hint);
    return h("div", null, h("label", { for: id }, field.label), input, hint);
  });

  async function submit(event) {
    event.preventDefault();
    problem.replaceChildren();
    const values = {};
    for (const [field, input] of inputs) {
      const text = field.type === "checkbox" ? input.checked : input.value.trim();
      const value = text === "" ? undefined : field.parse ? field.parse(text) : text;
      if (value === undefined && text !== "") {
        problem.replaceChildren(h("p", null, `${field.label}: ${field.wrong ?? "that is not possible"}`));
        input.focus();
        return;
      }
      values[field.name] = value;
    }
    const buttons = [...dialog.querySelectorAll("button")];
    buttons.forEach((each) => { each.disabled = true; });
    try {
      const said = await action(values);
      dialog.close();
      if (typeof said === "string") say(said);
      else if (said?.percent_complete !== undefined) watch(said);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problem.replaceChildren(...(error.error ? explain(error.error).filter(Boolean) : [h("p", null, error.message)]));
    } finally {
      buttons.forEach((each) => { each.disabled = false; });
    }
  }

  open(title, h("form", { onsubmit: submit }, note && h("p", null, note), parts, problem,
    h("div", { class: "buttons" },
      button("Cancel", () => dialog.close()),
      h("button", { type: "submit", class: danger ? "danger" : "main" }, verb))));
}
