// The welcome page: says whether the gateway is up, and lets its owner try a picture.
// Whatever comes from outside is written with textContent, and only http(s) and picture data: links are followed.

const RATIOS = ["", "1:1", "3:2", "4:3", "16:9", "2:1", "2:3", "3:4", "9:16", "1:2"];
const KEPT = "image-gateway-key";
const PICTURE = /!\[[^\]]*\]\(\s*<?([^\s()<>]+)>?\s*\)/g;

const byId = (id) => document.getElementById(id);
// Relative to this page, so that it also works below a path of a reverse proxy.
const address = (path) => new URL(path, new URL(".", location.href)).href;

let running = null;
let modelsFor = null;

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// --- the key -------------------------------------------------------------------------------------------------------

function storedKey() {
  try {
    return sessionStorage.getItem(KEPT) || "";
  } catch {
    return ""; // Storage may be switched off; then the key lives in the field alone.
  }
}

function storeKey(key) {
  try {
    if (key) sessionStorage.setItem(KEPT, key);
    else sessionStorage.removeItem(KEPT);
  } catch {
    // As above.
  }
}

const typedKey = () => byId("key").value.trim();

function headers(extra = {}) {
  const key = typedKey();
  if (key && !/^[\x21-\x7e]+$/.test(key)) throw new Error("The key has characters that no key has; was something else pasted?");
  return key ? { Authorization: `Bearer ${key}`, ...extra } : extra;
}

// --- what the gateway says of itself -------------------------------------------------------------------------------

async function showHealth() {
  const pill = byId("status");
  try {
    const response = await fetch(address("health"), { cache: "no-store" });
    const health = await response.json();
    const models = Number.isInteger(health.models) ? `${health.models} ${health.models === 1 ? "model" : "models"}` : "";
    pill.dataset.state = response.ok ? "up" : "down";
    pill.textContent = [response.ok ? (health.status === "degraded" ? "Degraded" : "Up") : `Not ready: ${health.status ?? response.status}`, models].filter(Boolean).join(" · ");
  } catch {
    pill.dataset.state = "down";
    pill.textContent = "Not reachable";
  }
}

async function errorOf(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    const code = error.code ? ` (${error.code})` : "";
    return `${error.message}${code}`;
  } catch {
    return `The answer was ${response.status} ${response.statusText}`.trim();
  }
}

async function loadModels() {
  const key = typedKey();
  if (modelsFor === key) return;
  modelsFor = key;
  const help = byId("model-help");
  try {
    const response = await fetch(address("v1/models"), { headers: headers() });
    if (!response.ok) throw new Error(await errorOf(response));
    const ids = (await response.json()).data.map((model) => String(model.id));
    if (typedKey() !== key) return;
    fillModels(ids);
    storeKey(key);
    help.textContent = ids.length === 1 ? "1 model for this key." : `${ids.length} models for this key.`;
  } catch (error) {
    if (typedKey() !== key) return;
    modelsFor = null;
    fillModels([]);
    help.textContent = error.message;
  }
  showCode();
}

function fillModels(ids) {
  const select = byId("model");
  const chosen = select.value;
  select.replaceChildren(make("option", "Default model", { value: "" }), ...ids.map((id) => make("option", id, { value: id })));
  select.value = ids.includes(chosen) ? chosen : ids[0] ?? "";
}

// --- examples ------------------------------------------------------------------------------------------------------

function examples() {
  const base = address("v1");
  const model = byId("model").value || "MODEL";
  // JSON text is also a Python and a JavaScript string; a single quote in it would end the shell's.
  const json = JSON.stringify({ model, prompt: "a lighthouse at dawn", size: "1024x1024", response_format: "url" }, null, 2);
  return {
    "code-curl": `curl ${base}/images/generations \\
  -H "Authorization: Bearer $IMAGE_GATEWAY_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${json.replaceAll("'", "'\\''")}'`,
    "code-python": `import os

from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(base)}, api_key=os.environ["IMAGE_GATEWAY_KEY"])
answer = client.images.generate(
    model=${JSON.stringify(model)},
    prompt="a lighthouse at dawn",
    size="1024x1024",
    response_format="url",
)
print(answer.data[0].url)`,
    "code-node": `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${JSON.stringify(base)}, apiKey: process.env.IMAGE_GATEWAY_KEY });
const answer = await client.images.generate({
  model: ${JSON.stringify(model)},
  prompt: "a lighthouse at dawn",
  size: "1024x1024",
  response_format: "url",
});
console.log(answer.data[0].url);`,
  };
}

function showCode() {
  byId("base").value = address("v1");
  for (const [id, text] of Object.entries(examples())) byId(id).textContent = text;
}

// --- a picture -----------------------------------------------------------------------------------------------------

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? "";
    const blocks = (done ? `${rest}\n\n` : rest).replaceAll("\r\n", "\n").split("\n\n");
    // A chunk may end between the two halves of a line end; what is not closed yet waits for the next.
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
    if (done) return;
  }
}

async function generate(signal) {
  const ratio = document.querySelector("#ratios input:checked").value;
  const prompt = byId("prompt").value.trim();
  const model = byId("model").value;
  const body = { messages: [{ role: "user", content: ratio ? `${prompt} ${ratio}` : prompt }], stream: true };
  if (model) body.model = model;
  const response = await fetch(address("v1/chat/completions"), {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error(await errorOf(response));
  storeKey(typedKey());
  const isStream = (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");
  return isStream ? readStream(response) : readWhole(await response.json());
}

function readWhole(answer) {
  return { text: String(answer.choices?.[0]?.message?.content ?? ""), receipt: answer.gateway?.receipt };
}

async function readStream(response) {
  let text = "";
  let receipt;
  for await (const chunk of events(response)) {
    if (chunk.error) throw new Error(chunk.error.code ? `${chunk.error.message} (${chunk.error.code})` : String(chunk.error.message));
    receipt = chunk.gateway?.receipt ?? receipt;
    const delta = chunk.choices?.[0]?.delta ?? {};
    if (delta.reasoning_content) delta.reasoning_content.split("\n").forEach(tell);
    text += delta.content ?? "";
    // Progress comes as whole quoted lines before the answer.
    for (let found; (found = text.match(/^(?:> ?([^\n]*)|[^\S\n]*)\n/)); text = text.slice(found[0].length)) tell(found[1] ?? "");
  }
  return { text, receipt };
}

function tell(line) {
  const words = line.replace(/\\([\\`<>[\]*_/.@])/g, "$1").trim();
  if (words) byId("progress").append(make("li", words));
}

function safeLink(text) {
  try {
    const url = new URL(text, location.href);
    const fits = url.protocol === "http:" || url.protocol === "https:" || /^data:image\/(png|jpeg|webp|gif|avif)[;,]/.test(url.href);
    return fits ? url.href : null;
  } catch {
    return null;
  }
}

function show({ text, receipt }) {
  const links = [...text.matchAll(PICTURE)].map((found) => safeLink(found[1])).filter(Boolean);
  if (!links.length) throw new Error(text.trim() ? `There is no picture in the answer: ${text.trim()}` : "The answer is empty.");
  const prompt = byId("prompt").value.trim();
  byId("pictures").replaceChildren(...links.map((link) => figure(link, prompt)));
  byId("markdown").value = links.map((link) => `![Image](${link})`).join(" ");
  showReceipt(receipt);
  byId("result").hidden = false;
}

function figure(link, prompt) {
  const element = make("figure");
  const image = make("img", "", { alt: prompt, src: link });
  const caption = make("figcaption");
  if (link.startsWith("data:")) caption.textContent = "The picture is in the answer itself; it has no link.";
  else caption.append(make("a", link, { href: link, target: "_blank", rel: "noopener noreferrer" }));
  image.addEventListener("error", () => caption.append(make("span", " — the picture was made, but this browser cannot load it from there.")));
  element.append(image, caption);
  return element;
}

function showReceipt(receipt) {
  const list = byId("receipt");
  const lines = [
    ...(receipt?.adjusted ?? []).map((change) => `${change.name}: ${change.reason}`),
    ...(receipt?.dropped ?? []).map((change) => `${change.name} not used: ${change.reason}`),
    ...(receipt?.notes ?? []),
  ];
  list.replaceChildren(...lines.map((line) => make("li", String(line))));
  list.hidden = !lines.length;
}

function setBusy(busy) {
  byId("generate").disabled = busy;
  byId("generate").textContent = busy ? "Generating…" : "Generate";
  byId("cancel").hidden = !busy;
  byId("progress").classList.toggle("busy", busy);
}

function complain(message) {
  byId("error").textContent = message;
  byId("error").hidden = !message;
}

async function submit(event) {
  event.preventDefault();
  if (running) return;
  complain("");
  if (!byId("prompt").value.trim()) {
    complain("Say what the picture shall show.");
    byId("prompt").focus();
    return;
  }
  byId("result").hidden = true;
  byId("progress").replaceChildren();
  byId("progress").hidden = false;
  running = new AbortController();
  setBusy(true);
  try {
    show(await generate(running.signal));
    byId("progress").hidden = true;
  } catch (error) {
    const words = {
      AbortError: "Cancelled.",
      SyntaxError: "The answer could not be read.",
      TypeError: "The gateway cannot be reached, or the connection broke.",
    };
    complain(words[error.name] ?? error.message);
  } finally {
    running = null;
    setBusy(false);
  }
}

// --- small things --------------------------------------------------------------------------------------------------

async function copy(button) {
  const source = byId(button.dataset.copy);
  const text = source.value ?? source.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOldWay(text); // Without HTTPS there is no clipboard API.
  }
  byId("copied").textContent = "Copied";
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
    byId("copied").textContent = "";
  }, 1500);
}

function copyOldWay(text) {
  const area = make("textarea", "", { readonly: "", class: "unseen" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function pick(tab) {
  for (const other of document.querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    byId(other.getAttribute("aria-controls")).hidden = !chosen;
  }
}

function stepTabs(event) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  pick(next);
  next.focus();
}

function makeRatios() {
  for (const ratio of RATIOS) {
    const label = make("label");
    const input = make("input", "", { type: "radio", name: "ratio", value: ratio });
    input.checked = !ratio;
    label.append(input, make("span", ratio || "Auto"));
    byId("ratios").append(label);
  }
}

function forget() {
  storeKey("");
  byId("key").value = "";
  modelsFor = null;
  fillModels([]);
  byId("model-help").textContent = "The key is forgotten.";
  showCode();
}

function reveal() {
  const hidden = byId("key").type === "password";
  byId("key").type = hidden ? "text" : "password";
  byId("reveal").textContent = hidden ? "Hide" : "Show";
  byId("reveal").setAttribute("aria-pressed", String(hidden));
}

makeRatios();
byId("key").value = storedKey();
byId("key").addEventListener("change", loadModels);
byId("model").addEventListener("focus", loadModels);
byId("model").addEventListener("change", showCode);
byId("forget").addEventListener("click", forget);
byId("reveal").addEventListener("click", reveal);
byId("try").addEventListener("submit", submit);
byId("cancel").addEventListener("click", () => running?.abort());
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => pick(tab));
  tab.addEventListener("keydown", stepTabs);
}
showCode();
showHealth();
if (typedKey()) loadModels();
