// Asks through the official client of Node: cases as JSON on the standard input, what came of each on the
// standard output. The client is found in the folder that is named by the first argument.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(path.resolve(process.argv[2]), "node_modules", "none.js"));
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));

let text = "";
for await (const piece of process.stdin) text += piece;

const ask = async (client, { call, body }) => {
  if (call === "models") return (await client.models.list()).data.map((model) => model.id);
  if (call === "model") return (await client.models.retrieve(body.model)).id;
  if (!body.stream) {
    const reply = await client.chat.completions.create(body);
    const { content, reasoning_content: thinking, p2r } = reply.choices[0].message;
    return { content, thinking, answer: p2r.answer, boxes: p2r.boxes.length, tokens: reply.usage.total_tokens };
  }
  const seen = { content: "", thinking: "", boxes: null, answer: null, tokens: null };
  for await (const chunk of await client.chat.completions.create(body)) {
    if (chunk.p2r) seen.boxes = chunk.p2r.boxes.length;
    if (chunk.usage) seen.tokens = chunk.usage.total_tokens;
    for (const { delta } of chunk.choices) {
      seen.content += delta.content ?? "";
      seen.thinking += delta.reasoning_content ?? "";
      if (delta.p2r) seen.answer = delta.p2r.answer;
    }
  }
  return seen;
};

const said = {};
for (const each of JSON.parse(text)) {
  const client = new OpenAI({
    baseURL: each.url,
    apiKey: each.key,
    maxRetries: 0,
    timeout: 60_000,
  });
  try {
    said[each.name] = { ok: await ask(client, each) };
  } catch (error) {
    const { status, code, param } = error;
    said[each.name] = { error: { kind: error.constructor.name, status: status ?? null, code, param } };
  }
}
console.log(JSON.stringify(said));
