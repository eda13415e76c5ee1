// OpenAI's Node SDK: previews, edits with masks, variations and the image tool; prints what it got as one line of JSON.
// Arguments: the folder that holds node_modules, and a JSON with base, key, model and a picture as base64.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, given] = process.argv.slice(2);
const { base, key, model, picture } = JSON.parse(given);
const resolved = createRequire(pathToFileURL(`${folder}/`)).resolve("openai");
const loaded = await import(pathToFileURL(resolved));
const OpenAI = loaded.OpenAI ?? loaded.default.OpenAI ?? loaded.default;

const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0, timeout: 20000 });
const bytes = Buffer.from(picture, "base64");
const file = (name) => loaded.toFile(bytes, name, { type: "image/png" });
const start = (text) => Buffer.from(text, "base64").subarray(0, 4).toString("hex");
const small = { model, size: "64x64" };
const told = {};

async function read(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const drawn = await read(await client.images.generate({ ...small, prompt: "a fox", stream: true, partial_images: 2 }));
told.generated = drawn.map((event) => [event.type, event.partial_image_index ?? null, start(event.b64_json), event.size]);

const edited = await client.images.edit({ ...small, prompt: "at night", image: await file("a.png"), mask: await file("m.png") });
told.edited = [edited.data.length, start(edited.data[0].b64_json), edited.size];
const several = await client.images.edit({ ...small, prompt: "both", image: [await file("a.png"), await file("b.png")], n: 2 });
told.several = several.data.map((each) => start(each.b64_json));
const changing = { ...small, prompt: "at night", image: await file("a.png"), stream: true, partial_images: 1 };
told.streamed = (await read(await client.images.edit(changing))).map((event) => [event.type, start(event.b64_json)]);
told.broken = await client.images
  .edit({ ...small, prompt: "x", image: await loaded.toFile(Buffer.from("no picture"), "a.png", { type: "image/png" }) })
  .then(() => null, (error) => [error.status, error.code, error.param]);

const varied = await client.images.createVariation({ ...small, image: await file("a.png"), response_format: "url" });
told.varied = varied.data[0].url;

const tools = [{ type: "image_generation", size: "64x64", partial_images: 2 }];
const answer = await client.responses.create({ model, input: "a fox", tools });
const calls = answer.output.filter((item) => item.type === "image_generation_call");
told.answered = [answer.status, calls.length, calls[0].status, start(calls[0].result), answer.output_text];
const steps = await read(await client.responses.create({ model, input: "a fox", tools, stream: true }));
told.steps = steps.map((event) => event.type);
told.numbered = steps.every((event, place) => event.sequence_number === place);
told.last = start(steps.at(-1).response.output[0].result);
const helper = client.responses.stream({ model, input: "a fox", tools });
const final = await helper.finalResponse();
told.helper = [final.status, start(final.output[0].result)];
const again = [
  { role: "user", content: [{ type: "input_text", text: "at night" }] },
  { type: "image_generation_call", id: calls[0].id, status: "completed", result: calls[0].result },
];
const changed = await client.responses.create({ model, input: again, tools });
told.changed = [changed.status, start(changed.output[0].result)];
told.unserved = await client.responses
  .create({ model, input: "hello" })
  .then(() => null, (error) => [error.status, error.code, error.param]);

const { response: raw } = await client.images.generate({ ...small, prompt: "a fox" }).withResponse();
told.raw = [raw.status, /^req_[0-9a-f]{24}$/.test(raw.headers.get("x-request-id"))];
const keyed = { headers: { "Idempotency-Key": "node-order-1" } };
const once = await client.images.generate({ ...small, prompt: "a fox", response_format: "url" }, keyed);
const twice = await client.images.generate({ ...small, prompt: "a fox", response_format: "url" }, keyed);
told.same = once.data[0].url === twice.data[0].url;
const left = new AbortController();
const leaving = client.images.generate({ ...small, prompt: "a fox", stream: true }, { signal: left.signal });
left.abort();
told.left = await leaving.then(() => null, (error) => error.constructor.name);

console.log(JSON.stringify(told));
