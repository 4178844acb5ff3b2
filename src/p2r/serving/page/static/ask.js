// A question to a model, and what comes of it. Entries and their columns are described in `result.js`.
import { count, letter } from "./result.js";
import { answer, json } from "./server.js";

export const looks = (model) => !/think|direct/.test(model); // whether it is asked where to look

// What a prediction says about the evidence.
export const evidence = ({ boxes, crops_px: crops, outcome }) => ({ boxes, crops, outcome });

// Answer the question of an entry in one of its columns, with `p2r` as settings; yields {stage, seen}.
export async function* ask(entry, column, p2r, signal) {
  const { image, question, choices } = entry;
  yield { stage: "Sending the image" };
  const stopped = new Promise((_, reject) => { signal.onabort = () => reject(signal.reason); });
  await Promise.race([image.ready, stopped]);
  yield { stage: "Waiting for its turn" };
  const text = [question, ...choices.map((choice, index) => `${letter(index)}. ${choice}`)].join("\n");
  const shown = { type: "image_url", image_url: { url: `p2r-image:${image.id}` } };
  const messages = [{ role: "user", content: [shown, { type: "text", text }] }];
  const body = { model: column.model, messages, p2r };
  for await (const { begun, seen, thinking, result } of answer(body, signal)) {
    column.thinking += thinking;
    column.id = result ?? column.id;
    if (seen) Object.assign(entry, evidence(seen));
    if (begun) yield { stage: looks(body.model) && !p2r.boxes ? "Looking at the whole image" : "Reasoning" };
    const regions = entry.crops.length ? count(entry.crops.length, "region") : "the whole image";
    yield { stage: seen && `Reasoning about ${regions}`, seen };
  }
  column.record = await json(`page/results/${column.id}.json`);
  if (column === entry.columns[0]) Object.assign(entry, evidence(column.record.prediction));
}
