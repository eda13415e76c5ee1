// The API reference: shows the OpenAPI document of this gateway. Nothing is loaded from anywhere else, and every word
// of the document is written with textContent.

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 6;

const byId = (id) => document.getElementById(id);
// Relative to this page, so that it also works below a path of a reverse proxy.
const address = (path) => new URL(path, new URL("./", location.href)).href;

let spec = {};

function make(tag, words = "", attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.textContent = words;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Write words with `code` in them. */
function prose(words, tag = "p") {
  const element = make(tag);
  String(words ?? "").split("`").forEach((piece, place) => {
    element.append(place % 2 ? make("code", piece) : piece);
  });
  return element;
}

// --- schemas -------------------------------------------------------------------------------------------------------

const nameOf = (schema) => schema?.$ref?.split("/").pop() ?? "";
const resolved = (schema) => (schema?.$ref ? spec.components.schemas[nameOf(schema)] ?? {} : schema ?? {});

function withoutNull(schema) {
  const choices = (schema.anyOf ?? []).filter((choice) => choice.type !== "null");
  return schema.anyOf && choices.length === 1 ? { ...choices[0], description: schema.description ?? choices[0].description } : schema;
}

function typeOf(schema) {
  const own = withoutNull(schema);
  if (own.$ref) return nameOf(own);
  if (own.const !== undefined) return JSON.stringify(own.const);
  if (own.enum) return own.enum.filter((value) => value !== null).map((value) => JSON.stringify(value)).join(" | ");
  if (own.anyOf) return [...new Set(own.anyOf.filter((choice) => choice.type !== "null" && (choice.type || choice.$ref || choice.anyOf)).map(typeOf))].join(" | ");
  const kinds = [own.type ?? "any"].flat().filter((kind) => kind !== "null");
  if (kinds[0] === "array") return `list of ${typeOf(own.items ?? {})}`;
  if (own.contentMediaType) return "file";
  return `${kinds.join(" | ")}${bounds(own)}`;
}

function bounds({ minimum: low, maximum }) {
  // JavaScript cannot show the largest whole numbers as they are.
  const high = Number.isSafeInteger(maximum) || maximum % 1 ? maximum : undefined;
  if (low === undefined && high === undefined) return "";
  if (high === undefined) return low ? ` from ${low}` : "";
  return ` ${low ?? "…"} to ${high}`;
}

/** Give the objects inside a schema that are worth opening: its own fields, its items', its choices'. */
function objectsIn(schema, seen = []) {
  const own = resolved(schema);
  const name = nameOf(schema);
  if (seen.includes(name) && name) return [];
  if (own.properties && Object.keys(own.properties).length) return [[name, own]];
  const inner = own.type === "array" || own.items ? [own.items] : own.anyOf ?? [];
  return inner.filter(Boolean).flatMap((choice) => objectsIn(choice, [...seen, name]));
}

/** Show the fields of an object; *sent* ones say whether they are required. */
function fieldsOf(schema, sent, depth = 0) {
  const table = make("table");
  const body = make("tbody");
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const head = make("th", name, { scope: "row" });
    if (sent && schema.required?.includes(name)) head.append(make("span", "required", { class: "must" }));
    const own = withoutNull(field);
    const about = make("td");
    about.append(prose(field.description ?? own.description ?? resolved(own).description ?? "", "span"));
    if (field.default !== undefined) about.append(prose(` Without it \`${JSON.stringify(field.default)}\`.`, "span"));
    if (depth < DEEPEST) objectsIn(own).forEach(([inner, object]) => about.append(folded(titleOf(inner, object), object, sent, depth + 1)));
    body.append(make("tr", "", {}, head, make("td", typeOf(field)), about));
  }
  table.append(body);
  return make("div", "", { class: "scroll" }, table);
}

/** Name an object: by its own name, by the kinds that its type may be, or by its fields. */
function titleOf(name, schema) {
  const kind = schema.properties.type;
  return name || (kind?.const || kind?.enum ? [kind.const ?? kind.enum].flat() : Object.keys(schema.properties)).join(", ");
}

/** Give a closed fold whose fields are made when it is first opened: the schemas refer to each other. */
function folded(title, schema, sent, depth) {
  const inside = make("div");
  const fold = make("details", "", { class: "inner" }, make("summary", title), inside);
  fold.addEventListener("toggle", () => {
    if (fold.open && !inside.firstChild) inside.append(fieldsOf(schema, sent, depth));
  });
  return fold;
}

// --- operations ----------------------------------------------------------------------------------------------------

function parameters(operation) {
  if (!operation.parameters?.length) return [];
  const body = make("tbody");
  for (const { name, in: place, schema, description, required } of operation.parameters) {
    const head = make("th", name, { scope: "row" });
    if (required) head.append(make("span", "required", { class: "must" }));
    const about = make("td");
    about.append(prose(description, "span"));
    body.append(make("tr", "", {}, head, make("td", `${place}, ${typeOf(schema ?? {})}`), about));
  }
  return [make("h3", "Parameters"), make("div", "", { class: "scroll" }, make("table", "", {}, body))];
}

function requestBody(method, path, operation) {
  const content = Object.entries(operation.requestBody?.content ?? {});
  return content.flatMap(([kind, media]) => {
    const title = make("h3", "Body ");
    title.append(make("code", kind));
    const shown = [title, ...objectsIn(media.schema).map(([, object]) => fieldsOf(object, true))];
    if (media.example !== undefined) shown.push(example(curl(method, path, media.example), "Copy the call"));
    return shown;
  });
}

function answers(operation) {
  const list = make("dl");
  for (const [status, answer] of Object.entries(operation.responses ?? {})) {
    const term = make("dt");
    term.append(make("span", status === "default" ? "else" : status, { class: "status" }), " ", prose(answer.description, "span"));
    list.append(term);
    const headers = Object.keys(answer.headers ?? {}).filter((name) => name !== "x-request-id");
    if (headers.length && Number(status) < 400) list.append(headersOf(headers));
    for (const [kind, media] of Object.entries(answer.content ?? {})) list.append(contentOf(kind, media, status));
  }
  return [make("h3", "Answers"), list];
}

function headersOf(names) {
  const item = make("dd");
  for (const name of names) {
    item.append(make("code", name), " ", prose(spec.components.headers?.[name]?.description ?? "", "span"), make("br"));
  }
  return item;
}

function contentOf(kind, media, status) {
  const item = make("dd");
  const event = media["x-event-schema"];
  if (Number(status) < 400) item.append(make("code", kind), " ", prose(media.schema?.description ?? "", "span"));
  objectsIn(event ?? media.schema ?? {}).forEach(([name, object]) => item.append(folded(titleOf(name, object), object, false, 1)));
  if (media.example !== undefined && Number(status) < 400) {
    const fold = make("details", "", { class: "inner" }, make("summary", "Example"));
    fold.append(example(JSON.stringify(media.example, null, 2), "Copy the example"));
    item.append(fold);
  }
  return item;
}

function curl(method, path, body) {
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  const lines = [
    `curl ${address(path.replace(/^\//, ""))}`,
    '-H "Authorization: Bearer $IMAGE_GATEWAY_KEY"',
    '-H "Content-Type: application/json"',
    `-d '${quoted}'`,
  ];
  return (method === "post" ? lines : [lines[0], `-X ${method.toUpperCase()}`, ...lines.slice(1)]).join(" \\\n  ");
}

function example(text, label) {
  const code = make("code", text);
  const button = make("button", "Copy", { type: "button", class: "quiet", "aria-label": label });
  button.addEventListener("click", () => copy(button, text));
  return make("div", "", { class: "example" }, make("pre", "", { tabindex: "0" }, code), button);
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", "", { readonly: "", class: "unseen" }); // Without HTTPS there is no clipboard API.
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  byId("copied").textContent = button.textContent = "Copied";
  setTimeout(() => {
    byId("copied").textContent = "";
    button.textContent = "Copy";
  }, 1500);
}

function operationOf(method, path, operation) {
  const head = make("summary");
  head.append(make("span", method.toUpperCase(), { class: "method", "data-method": method }), make("span", path, { class: "path" }));
  if (operation.security && !operation.security.length) head.append(make("span", "no key", { class: "open-to-all" }));
  const says = prose(operation.summary, "span");
  says.className = "says";
  head.append(says);
  const element = make("details", "", { class: "operation", id: operation.operationId ?? `${method} ${path}` }, head);
  element.dataset.words = JSON.stringify([method, path, operation.summary, operation.description, fieldNames(operation)]).toLowerCase();
  element.addEventListener("toggle", () => {
    if (!element.open || head.nextSibling) return;
    if (operation.description) element.append(prose(operation.description));
    element.append(...parameters(operation), ...requestBody(method, path, operation), ...answers(operation));
  });
  return element;
}

function fieldNames(operation) {
  const bodies = Object.values(operation.requestBody?.content ?? {}).flatMap((media) => objectsIn(media.schema));
  return [...(operation.parameters ?? []).map((each) => each.name), ...bodies.flatMap(([, object]) => Object.keys(object.properties))];
}

// --- the page ------------------------------------------------------------------------------------------------------

function show() {
  byId("tagline").textContent = spec.info.summary ?? spec.info.title;
  const about = String(spec.info.description ?? "").split(/\n\s*\n/).filter((words) => words.trim());
  byId("about").append(...about.map((words) => prose(words)), ways());
  for (const tag of spec.tags ?? []) {
    const found = Object.entries(spec.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]?.tags?.[0] === tag.name).map((method) => [method, path, item[method]]));
    const links = found.map(([method, path, operation]) =>
      make("li", "", {}, make("a", `${method.toUpperCase()} ${path}`, { href: `#${operation.operationId}` })));
    byId("contents").append(make("h2", tag.name), make("ul", "", {}, ...links));
    const section = make("section", "", { class: "card", "aria-label": tag.name }, make("h2", tag.name), prose(tag.description));
    section.append(...found.map((each) => operationOf(...each)));
    byId("operations").append(section);
  }
  byId("operations").removeAttribute("aria-busy");
}

function ways() {
  const schemes = Object.values(spec.components.securitySchemes ?? {});
  const headers = schemes.map((scheme) => (scheme.scheme === "bearer" ? "Authorization: Bearer KEY" : `${scheme.name}: KEY`));
  return prose(`The key goes into ${headers.map((header) => `\`${header}\``).join(" or ")}.`);
}

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const section of document.querySelectorAll("#operations > section:not(#about)")) {
    const operations = [...section.querySelectorAll(".operation")];
    for (const operation of operations) operation.hidden = !words.every((word) => operation.dataset.words.includes(word));
    const left = operations.filter((operation) => !operation.hidden).length;
    section.hidden = !left;
    shown += left;
  }
  byId("about").hidden = words.length > 0;
  byId("nothing").hidden = shown > 0;
}

function unfold() {
  const open = byId("unfold").getAttribute("aria-pressed") !== "true";
  for (const operation of document.querySelectorAll(".operation")) operation.open = open;
  byId("unfold").setAttribute("aria-pressed", String(open));
  byId("unfold").textContent = open ? "Close all" : "Open all";
}

function follow() {
  const found = byId(decodeURIComponent(location.hash.slice(1)));
  if (!found?.classList.contains("operation")) return;
  if (found.hidden) {
    byId("filter").value = "";
    filter();
  }
  found.open = true;
  found.scrollIntoView();
}

async function load() {
  try {
    const response = await fetch(address("openapi.json"));
    if (!response.ok) throw new Error(`The gateway answers ${response.status}.`);
    spec = await response.json();
    show();
    follow();
  } catch (error) {
    byId("error").textContent = `The reference cannot be shown. ${error.message}`;
    byId("error").hidden = false;
  }
}

byId("filter").addEventListener("input", filter);
byId("unfold").addEventListener("click", unfold);
addEventListener("hashchange", follow);
load();
