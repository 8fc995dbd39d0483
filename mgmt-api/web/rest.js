// Shows the OpenAPI document: every operation, what it takes and what it answers.

import { get } from "./api.js";
import { h } from "./dom.js";

const main = document.getElementById("main");

/** A schema in one line: `Disk`, `integer`, `[Disk]`, `string | null`. */
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return h("a", { href: `#schema-${name}` }, name);
  }
  if (schema.type === "array") return ["[", kind(schema.items), "]"];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((it, index) => (index ? [" | ", kind(it)] : [kind(it)]));
  if (schema.enum) return schema.enum.map((it) => JSON.stringify(it)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  return [schema.type].flat().join(" | ");
}

const table = (head, rows) => rows.length > 0 && h("div", { class: "wide", tabindex: "0" },
  h("table", null,
    h("thead", null, h("tr", null, head.map((it) => h("th", { scope: "col" }, it)))),
    h("tbody", null, rows.map((row) => h("tr", null, row.map((cell) => h("td", null, [cell].flat(Infinity))))))));

const first = (content) => Object.entries(content ?? {})[0] ?? ["", {}];

function operation(path, method, it) {
  const body = it.requestBody && first(it.requestBody.content)[1].schema;
  const answers = Object.entries(it.responses).map(([status, answer]) => {
    const [type, { schema }] = first(answer.content);
    return [status, answer.description, schema ? kind(schema) : type];
  });
  return h("details", null,
    h("summary", null, h("code", null, `${method.toUpperCase()} ${path}`), ` ${it.summary}`),
    h("p", null, it.description),
    table(["Parameter", "In", "Type"], it.parameters.map((one) => [one.required ? `${one.name} (required)` : one.name, one.in, kind(one.schema)])),
    body && h("p", null, "Body: ", [kind(body)].flat(Infinity)),
    table(["Status", "", "Answer"], answers));
}

function schema(name, it) {
  const members = Object.entries(it.properties ?? {});
  const required = it.required ?? [];
  return h("section", { id: `schema-${name}` },
    h("h3", null, name),
    it.description && h("p", null, it.description),
    members.length === 0 && h("p", null, [kind({ ...it, $ref: undefined })].flat(Infinity)),
    table(["Member", "Type", ""], members.map(([member, one]) =>
      [required.includes(member) ? `${member} (required)` : member, kind(one), one.description ?? ""])));
}

try {
  const document = await get("openapi.json");
  const parts = [h("h2", null, `REST, version ${document.info.version}`), h("p", null, document.info.description)];
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, it] of Object.entries(methods)) parts.push(operation(path, method, it));
  }
  parts.push(h("h2", null, "What goes over the wire"));
  for (const [name, it] of Object.entries(document.components.schemas)) parts.push(schema(name, it));
  main.replaceChildren(...parts.flat(Infinity).filter(Boolean));
} catch (error) {
  main.replaceChildren(h("p", { role: "alert" }, error.status === 401 ? "Sign in on the management page first." : error.message));
}
