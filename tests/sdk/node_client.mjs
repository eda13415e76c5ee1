// OpenAI's Node SDK against a running gateway; prints what it got as one line of JSON.
// Arguments: the folder that holds node_modules, and a JSON with base, key, model.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, given] = process.argv.slice(2);
const { base, key, model } = JSON.parse(given);
const resolved = createRequire(pathToFileURL(`${folder}/`)).resolve("openai");
const loaded = await import(pathToFileURL(resolved));
const OpenAI = loaded.OpenAI ?? loaded.default.OpenAI ?? loaded.default;

const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0, timeout: 20000 });
const messages = [{ role: "user", content: "a red fox in snow 16:9" }];
const told = {};

const plain = await client.chat.completions.create({ model, messages });
told.chat = plain.choices[0].message.content;
told.finish = plain.choices[0].finish_reason;

told.stream = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  told.stream += chunk.choices[0]?.delta?.content ?? "";
}

const helper = client.chat.completions.stream({ model, messages });
told.helper = (await helper.finalChatCompletion()).choices[0].message.content;

const linked = await client.images.generate({ model, prompt: "a red fox", response_format: "url" });
told.url = linked.data[0].url;
const inline = await client.images.generate({ model, prompt: "a red fox" });
told.base64 = Buffer.from(inline.data[0].b64_json, "base64").subarray(0, 4).toString("hex");

told.models = [];
for await (const each of client.models.list()) told.models.push(each.id);
told.one = (await client.models.retrieve(model)).id;

const wrong = new OpenAI({ baseURL: `${base}/v1`, apiKey: "ig-wrong", maxRetries: 0 });
told.wrong = await wrong.models.list().then(() => null, (error) => [error.status, error.code, Boolean(error.requestID)]);
told.unknown = await client.images
  .generate({ model: "nobody", prompt: "x" })
  .then(() => null, (error) => [error.status, error.code, error.param]);
told.empty = await client.chat.completions
  .create({ model, messages: [], stream: true })
  .then(() => null, (error) => [error.status, error.type, error.param]);

console.log(JSON.stringify(told));
