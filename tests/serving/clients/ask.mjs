// Asks through the clients of Node, found in the folder that is named by the first argument; prints what they
// gave as JSON:   node ask.mjs NODE_FOLDER http://127.0.0.1:8100/v1 src/p2r/demo/images
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, url, images] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), "node_modules", "none.js"));
const load = async (name) => import(pathToFileURL(require.resolve(name)));

const read = (name) => fs.readFileSync(path.join(images, `${name}.jpg`));
const dataUri = (name) => `data:image/jpeg;base64,${read(name).toString("base64")}`;
const ASKED = "Which digit is on the purple tag?";
const OPTIONS = `${ASKED}\nA. 9\nB. 3\nC. 5\nD. 4`;
const SECOND = `${ASKED}\nA. 3\nB. 9\nC. 5\nD. 4`; // without an image
const SUM = "What is the sum of the digits on the black tag and the green tag?";
const content = (text, name = "1-read") => [
  { type: "text", text },
  { type: "image_url", image_url: { url: dataUri(name) } },
];
const refusal = async (ask) => {
  try {
    return `not refused: ${JSON.stringify(await ask())}`;
  } catch (error) {
    return `${error.constructor.name}: ${error.message.slice(0, 160)}`;
  }
};

const { z } = await load("zod");
const Choice = z.object({ reasoning: z.string(), answer: z.enum(["3", "4", "5", "9"]) });
const Sum = z.object({ total: z.number().int() });
const Crowd = z.object({ digits: z.array(z.number()), colors: z.array(z.string()) });

const openai = async () => {
  const { default: OpenAI } = await load("openai");
  const { zodResponseFormat, zodTextFormat } = await load("openai/helpers/zod");
  const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
  const messages = [{ role: "user", content: content(OPTIONS) }];
  const first = await client.chat.completions.create({ model: "p2r", messages });
  const followed = [...messages, first.choices[0].message, { role: "user", content: SECOND }];
  const parse = async (text, name, kind) =>
    (
      await client.chat.completions.parse({
        model: "p2r",
        messages: [{ role: "user", content: content(text, name) }],
        response_format: zodResponseFormat(kind, "answer"),
      })
    ).choices[0].message.parsed;
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ model: "p2r", messages, stream: true }))
    streamed += chunk.choices[0]?.delta.content ?? "";
  const input = [
    {
      role: "user",
      content: [
        { type: "input_text", text: ASKED },
        { type: "input_image", image_url: dataUri("1-read"), detail: "auto" },
      ],
    },
  ];
  const stream = client.responses.stream({
    model: "p2r",
    input,
    text: { format: zodTextFormat(Choice, "answer") },
  });
  const final = await stream.finalResponse();
  return {
    ask: first.choices[0].message.content,
    stream: streamed,
    "second turn": (await client.chat.completions.create({ model: "p2r", messages: followed })).choices[0].message
      .content,
    "a choice": (await parse(ASKED, "1-read", Choice)).answer,
    "a number": typeof (await parse(SUM, "8-arithmetic", Sum)).total,
    "responses, streamed": final.output_parsed.answer,
    responses: JSON.parse(
      (await client.responses.create({ model: "p2r", input, text: { format: zodTextFormat(Choice, "answer") } }))
        .output_text,
    ).answer,
    error: await refusal(() => client.chat.completions.create({ model: "p2r", messages, n: 2 })),
  };
};

const aiSdk = async (model) => {
  const { generateText, streamText, Output, tool } = await load("ai");
  const message = (text, name = "1-read") => [
    {
      role: "user",
      content: [
        { type: "text", text },
        { type: "file", data: read(name), mediaType: "image/jpeg" },
      ],
    },
  ];
  const messages = message(OPTIONS);
  const first = await generateText({ model, messages });
  const streamed = streamText({ model, messages });
  let text = "";
  for await (const piece of streamed.textStream) text += piece;
  const structured = async (asked, output) => (await generateText({ model, messages: asked, output })).output;
  const ask = tool({ description: "Takes the answer.", inputSchema: Choice });
  const objects = streamText({ model, messages: message(ASKED), output: Output.object({ schema: Choice }) });
  let last;
  for await (const part of objects.partialOutputStream) last = part;
  return {
    ask: first.text,
    // The chat model of this provider does not read reasoning_content.
    ...(model.provider === "openai.chat" ? {} : { thinking: (first.reasoningText ?? "").includes("9") }),
    stream: text,
    "second turn": (
      await generateText({
        model,
        messages: [...messages, ...first.response.messages, { role: "user", content: SECOND }],
      })
    ).text,
    "Output.object": (await structured(message(ASKED), Output.object({ schema: Choice }))).answer,
    "Output.object, streamed": last?.answer,
    "Output.choice": await structured(message(ASKED), Output.choice({ options: ["3", "4", "5", "9"] })),
    "a number": typeof (await structured(message(SUM, "8-arithmetic"), Output.object({ schema: Sum }))).total,
    tool: (await generateText({ model, messages: message(ASKED), tools: { ask }, toolChoice: "required" }))
      .toolCalls[0].input.answer,
    error: await refusal(() => structured(messages, Output.object({ schema: Crowd }))),
  };
};

const langchain = async (useResponsesApi) => {
  const { ChatOpenAI } = await load("@langchain/openai");
  const { HumanMessage } = await load("@langchain/core/messages");
  const model = new ChatOpenAI({
    model: "p2r",
    apiKey: "none",
    configuration: { baseURL: url },
    maxRetries: 0,
    useResponsesApi,
  });
  const message = (text) => new HumanMessage({ content: content(text) });
  const first = await model.invoke([message(OPTIONS)]);
  let streamed = "";
  for await (const chunk of await model.stream([message(OPTIONS)])) streamed += chunk.text;
  const structured = async (method) =>
    (await model.withStructuredOutput(Choice, { method, name: "answer" }).invoke([message(ASKED)])).answer;
  return {
    ask: first.text,
    stream: streamed,
    "second turn": (await model.invoke([message(OPTIONS), first, new HumanMessage(SECOND)])).text,
    jsonSchema: await structured("jsonSchema"),
    functionCalling: await structured("functionCalling"),
    error: await refusal(() => model.withStructuredOutput(Crowd, { name: "answer" }).invoke([message(ASKED)])),
  };
};

const tried = {};
const run = async (name, ask) => {
  try {
    tried[name] = await ask();
  } catch (error) {
    tried[name] = { failed: `${error.stack}`.slice(0, 900) };
  }
};
await run("openai", openai);
const { createOpenAI } = await load("@ai-sdk/openai");
const { createOpenAICompatible } = await load("@ai-sdk/openai-compatible");
const provider = createOpenAI({ baseURL: url, apiKey: "none" });
await run("AI SDK, responses", () => aiSdk(provider("p2r")));
await run("AI SDK, chat", () => aiSdk(provider.chat("p2r")));
const compatible = { name: "p2r", baseURL: url, includeUsage: true };
await run("AI SDK, openai-compatible", () =>
  aiSdk(createOpenAICompatible({ ...compatible, supportsStructuredOutputs: true })("p2r")),
);
await run("LangChain, chat", () => langchain(false));
await run("LangChain, responses", () => langchain(true));
console.log(JSON.stringify(tried));
