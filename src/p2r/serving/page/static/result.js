// The panel of a result: question, evidence, and one answer or two side by side.
import { regionUrl } from "./server.js";

export const el = (tag, props = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children);
  return made;
};
export const show = (node, on) => { node.hidden = !on; };

// A rectangle of an image, at most so wide and high, never larger than it is.
export function thumbnail(id, rect, width, height) {
  const sides = [rect[2] - rect[0], rect[3] - rect[1]], scale = Math.min(1, width / sides[0], height / sides[1]);
  const size = sides.map((side) => Math.max(1, Math.round(side * scale)));
  return el("img", { src: regionUrl(id, rect, size), alt: "", width: size[0], height: size[1] });
}

export const WAYS = { p2r: "Look, then reason", "p2r-letter": "Look, then reason (letter only)",
  "p2r-think": "One pass over the plain image", "p2r-direct": "One pass, bare answer" };
const OUTCOMES = { whole: "The model needs the whole image: it named no region.",
  malformed: "The model's reply held no region that could be read: it reasons about the whole image." };

// An answer as people read it.
export function spoken({ prediction: { answer, truncated, notes }, choices }) {
  if (answer === null) return `None: ${truncated ? "it was cut off at its token limit" : notes.at(-1) ?? "the reply names none"}`;
  const option = choices[answer.length === 1 ? answer.charCodeAt(0) - 65 : -1];
  return option ? `${answer}. ${option}` : answer;
}

export class Result {
  #entry = null;
  #rects = [];

  constructor(root, viewer, boxes) {
    Object.assign(this, { root, viewer, boxes });
    const marks = (index, on) => { boxes.mark(index, on); this.#part("crops").children[index]?.classList.toggle("hot", on); };
    boxes.addEventListener("hot", ({ detail: { index, on } }) => marks(index, on));
  }

  #part(id) { return this.root.querySelector(`#${id}`); }

  show(entry) {
    this.#entry = entry;
    show(this.root, entry);
    if (!entry) return;
    const { question, choices, image: { name, width, height }, columns } = entry;
    this.#part("asked").textContent = question;
    const picked = columns[0].record?.prediction.answer;
    this.#part("options").replaceChildren(...choices.map((each, index) =>
      el("li", { textContent: each, className: picked === String.fromCharCode(65 + index) ? "picked" : "" })));
    this.#part("about").textContent = `${name}, ${width} × ${height} pixels`;
    this.#part("columns").replaceChildren();
    this.columns();
    this.evidence();
  }

  columns() {
    const { columns, given } = this.#entry, place = this.#part("columns");
    while (place.children.length < columns.length) place.append(el("article", {}, el("h3"),
      el("p", { className: "thinking", tabIndex: 0, role: "region", ariaLabel: "Reasoning" }), el("p", { className: "answer" }), el("p", { className: "small" })));
    place.classList.toggle("two", columns.length > 1);
    columns.forEach(({ model, thinking, record, problem }, index) => {
      const [title, thought, said, cost] = place.children[index].children, done = record?.prediction;
      const { total = 0, ...stages } = done?.seconds ?? {}, follows = thought.scrollTop + thought.clientHeight > thought.scrollHeight - 30;
      title.textContent = given && !index ? "Reasoned from your boxes" : WAYS[model] ?? model;
      thought.textContent = done?.thinking || thinking;
      if (follows && !done) thought.scrollTop = thought.scrollHeight;
      said.textContent = record ? spoken(record) : problem ?? "…";
      said.classList.toggle("none", !done?.answer);
      cost.textContent = done ? `${total.toFixed(2)} s (${Object.entries(stages).map(([name, took]) => `${name} ${took.toFixed(2)}`).join(", ")}) · `
        + `${done.usage.prompt_tokens} + ${done.usage.completion_tokens} tokens in ${done.usage.calls} call${done.usage.calls > 1 ? "s" : ""} · ${done.reasoner}` : "";
    });
  }

  // What was looked at: boxes on the image, crops in the same colors, and where to take the result.
  evidence() {
    const { boxes: list, crops, given, image, outcome, columns } = this.#entry, { boxes } = this;
    boxes.set(list);
    const done = columns[0].record?.prediction, notes = [OUTCOMES[outcome], ...(done?.notes ?? []), ...(done?.dropped ?? [])].filter(Boolean);
    this.#part("outcome").textContent = notes.join(" ");
    show(this.#part("outcome"), notes.length);
    const rects = crops.length ? crops : given ? list.map((_, index) => boxes.rect(index).map(Math.round)) : [];
    this.#part("crops").replaceChildren(...rects.map((rect, index) => this.#crop(image.id, rect, index, list[index]?.label ?? "")));
    const ids = columns.flatMap(({ id, record }) => record ? [id] : []), busy = columns.some(({ record, problem }) => !record && !problem);
    show(this.#part("actions"), ids.length);
    show(this.#part("compare"), columns.length === 1);
    for (const name of ["compare", "again"]) this.#part(name).disabled = busy;
    this.#part("link").href = `#result=${ids.join()}`;
    for (const [name, kind] of [["figure", "png"], ["json", "json"]])
      Object.assign(this.#part(name), { href: `page/results/${ids[0]}.${kind}`, download: `p2r-${ids[0]?.slice(-6)}.${kind}` });
    this.#rects = rects;
  }

  // A short flight to all of it.
  fly() {
    const end = (pick, side) => pick(...this.#rects.map((each) => each[side]));
    if (this.#rects.length) this.viewer.fly([end(Math.min, 0), end(Math.min, 1), end(Math.max, 2), end(Math.max, 3)], { most: 2 });
  }

  #crop(id, rect, index, label) {
    const button = el("button", { type: "button", className: `c${index % 8}`, title: "Show it at full size" },
      thumbnail(id, rect, 440, 300), el("b", { textContent: `${index + 1} ${label}`.trim() }),
      el("small", { textContent: `${rect[2] - rect[0]} × ${rect[3] - rect[1]} pixels` }));
    button.onclick = () => this.viewer.fly(rect, { least: 1 / devicePixelRatio });
    for (const [kind, on] of [["pointerenter", true], ["pointerleave", false], ["focus", true], ["blur", false]])
      button.addEventListener(kind, () => this.boxes.mark(index, on));
    return el("li", {}, button);
  }
}
