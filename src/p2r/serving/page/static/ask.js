// A question to a model, and what comes of it. Entries and their columns are described in `result.js`.
import { letter } from "./result.js";
import { answer, json } from "./server.js";

export const looks = (model) => !/think|direct/.test(model); // whether it is asked where to look

// What a prediction says about the evidence.
export const evidence = ({ boxes, crops_px: crops, outcome }) => ({ boxes, crops, outcome });

// Answer the question of an entry in one of its columns, with `p2r` as settings; yields {stage, seen} as it goes.
export async function* ask(entry, column, p2r, signal) {
  const { image, question, choices } = entry;
  yield { stage: "Sending the image" };
  await Promise.race([image.ready, new Promise((_, reject) => { signal.onabort = () => reject(signal.reason); })]);
  yield { stage: "Waiting for its turn" };
  const text = [question, ...choices.map((choice, index) => `${letter(index)}. ${choice}`)].join("\n");
  const content = [{ type: "image_url", image_url: { url: `p2r-image:${image.id}` } }, { type: "text", text }];
  const body = { model: column.model, messages: [{ role: "user", content }], p2r };
  for await (const { begun, seen, thinking, result } of answer(body, signal)) {
    column.thinking += thinking;
    column.id = result ?? column.id;
    if (seen) Object.assign(entry, evidence(seen));
    if (begun) yield { stage: p2r.boxes || !looks(column.model) ? "Reasoning" : "Looking at the whole image" };
    else yield { stage: seen && `Reasoning about ${regions(entry.crops.length)}`, seen };
  }
  column.record = await json(`page/results/${column.id}.json`);
  if (column === entry.columns[0]) Object.assign(entry, evidence(column.record.prediction));
}

const regions = (count) => count ? `${count} region${count > 1 ? "s" : ""}` : "the whole image";
