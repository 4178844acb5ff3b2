// The page: which image, which question, which result. Everything that anybody wrote is shown as text, never as markup.

import { Boxes } from "./boxes.js";
import { Refused, answer, json, named, regionUrl, upload } from "./server.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const el = (tag, props = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children);
  return made;
};
const LOCAL_BYTES = 15e6, KEPT = 60; // a file that the browser shows before it was sent; entries of the history
const WAYS = { p2r: "Look, then reason", "p2r-letter": "Look, then reason (letter only)",
  "p2r-think": "One pass, with reasoning", "p2r-direct": "One pass, bare answer" };
const OUTCOMES = { whole: "The model needs the whole image: it named no region.",
  malformed: "The model's reply held no region that could be read: it reasons about the whole image." };
const GONE = "The server does not hold this any more.";
const RANGES = ["max_evidence", "overview_max_pixels", "crop_max_pixels"];
const viewer = new Viewer($("viewer")), boxes = new Boxes(viewer, $("boxes"));
const about = await json("page/config");
const kept = { results: [], images: [], ...JSON.parse(localStorage.getItem("p2r") ?? "{}") };
const images = new Map(); // by id, and those that have none yet by themselves
let image = null, entry = null, running = null;

const save = () => localStorage.setItem("p2r", JSON.stringify(kept));
const toggle = (node, on) => { node.hidden = !on; };
function problem(text) {
  $("problem").textContent = text;
  toggle($("problem"), text);
  arrange();
}
const told = (error) => error instanceof TypeError ? "The server cannot be reached." : error.message;

// Images: each is asked about under the id that the server gave to it, whatever is shown meanwhile.

function known(record) {
  if (!images.has(record.id)) images.set(record.id, { ...record, ready: Promise.resolve() });
  return images.get(record.id);
}

function open(next, bitmap) {
  image = next;
  toggle($("welcome"), !image);
  boxes.set([]);
  arrange();
  viewer.open(image?.width ? image : null, bitmap);
  shelve();
}

function shelve() {
  const all = [...new Set(images.values())].slice(-12);
  $("images").replaceChildren(...all.filter((each) => each.width).map((each) => {
    const shown = each === image, button = el("button", { type: "button", title: each.name });
    const scale = Math.min(1, 96 / each.width, 96 / each.height);
    const size = [each.width, each.height].map((side) => Math.max(1, Math.round(side * scale)));
    button.setAttribute("aria-label", each.name);
    button.setAttribute("aria-pressed", shown);
    if (each.id) button.append(el("img", { alt: "", src: regionUrl(each.id, [0, 0, each.width, each.height], size) }));
    button.onclick = () => { if (!shown) { show(null); open(each); address(`image=${each.id}`); } };
    return button;
  }));
}

async function send(file) {
  const next = { name: file.name || "pasted image" };
  const given = file instanceof Blob;
  problem("");
  next.ready = given ? upload(file, (share) => { if (!running) stage(`Sending ${next.name}`, `${Math.round(100 * share)} %`); }) : named(file);
  next.ready = next.ready.then((record) => {
    Object.assign(next, record);
    images.delete(next);
    images.set(next.id, next);
    kept.images = [record, ...kept.images.filter(({ id }) => id !== record.id)].slice(0, 12);
    save();
  });
  next.ready.catch(() => images.delete(next));
  stage(given ? `Sending ${next.name}` : "Fetching the image");
  if (given && file.size < LOCAL_BYTES) {
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (bitmap && !next.id) {
      Object.assign(next, { width: bitmap.width, height: bitmap.height });
      images.set(next, next);
      show(null);
      open(next, bitmap);
    }
  }
  const before = image;
  try {
    await next.ready;
  } catch (error) {
    if (image === next) open(null);
    if (!running) stage("");
    problem(`${next.name}: ${told(error)}`);
    return null;
  }
  if (!running) stage(`${next.name}, ${next.width} × ${next.height} pixels`);
  if (image !== next && (image === before)) { show(null); open(next); } else viewer.refresh();
  if (image === next) address(`image=${next.id}`);
  shelve();
  return next;
}

async function sendAll(files) {
  for (const file of files) await send(file);
  if (files.length && image) $("question").focus();
}

// Questions.

async function ask(next, model, given) {
  const column = { model, thinking: "" }, abort = new AbortController(), begin = performance.now();
  next.columns.push(column);
  running = { next, column, abort };
  problem("");
  $("go").textContent = "Stop";
  show(next);
  const clock = setInterval(() => { $("seconds").textContent = `${((performance.now() - begin) / 1000).toFixed(1)} s`; }, 100);
  const text = [next.question, ...next.choices.map((each, index) => `${"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index]}. ${each}`)].join("\n");
  const options = { ...chosen(), ...(given && { boxes: given }) };
  if (next.choices.length) delete options.answer_type;
  try {
    stage("Sending the image");
    await Promise.race([next.image.ready, new Promise((_, no) => { abort.signal.onabort = () => no(abort.signal.reason); })]);
    stage("Waiting for its turn");
    const content = [{ type: "image_url", image_url: { url: `p2r-image:${next.image.id}` } }, { type: "text", text }];
    let id = "";
    for await (const event of answer({ model, messages: [{ role: "user", content }], p2r: options }, abort.signal)) {
      if (event.begun) stage(given || /think|direct/.test(model) ? "Reasoning" : "Looking at the whole image");
      if (event.seen) {
        Object.assign(next, { boxes: event.seen.boxes, crops: event.seen.crops_px, outcome: event.seen.outcome });
        stage(`Reasoning about ${next.crops.length || "the whole image, without"} ${next.crops.length === 1 ? "region" : "regions"}`);
        if (entry === next) evidence(true);
      }
      if (event.thinking) column.thinking += event.thinking;
      if (event.result) id = event.result;
      if (entry === next) columns();
    }
    Object.assign(column, { record: await json(`page/results/${id}.json`), id });
    Object.assign(next, column === next.columns[0] ? taken(column.record) : {});
    remember(next);
    const said = spoken(column.record);
    stage(entry === next ? `Answer: ${said}` : `“${next.question}” was answered: ${said}`);
  } catch (error) {
    const stopped = error.name === "AbortError";
    stage(stopped ? "Stopped" : "");
    column.problem = stopped ? "Stopped before it was answered." : `No answer: ${told(error)}`;
    if (!stopped) problem(column.problem);
  }
  clearInterval(clock);
  $("seconds").textContent = "";
  $("go").textContent = "Ask";
  running = null;
  if (entry === next) show(next, false);
}

function submit(given) {
  if (running) return stage(`${$("stage").textContent.replace(/ \(.*/, "")} (Stop it first)`);
  const question = $("question").value.trim();
  const choices = $("choices").hidden ? [] : $("choices").value.split("\n").map((each) => each.replace(/^\s*\(?[A-Z][.):]\s+/, "").trim()).filter(Boolean);
  if (!image) return problem("Open an image first.");
  if (!question) { $("question").focus(); return problem("What do you want to know about the image?"); }
  if (choices.length === 1) return problem("One option is none: give at least two, or leave them out.");
  const model = given ? "p2r" : $("mode").value;
  return ask({ image, question, choices, boxes: given ?? [], crops: [], given: Boolean(given), columns: [] }, model, given);
}

const taken = ({ prediction }) => ({ boxes: prediction.boxes, crops: prediction.crops_px, outcome: prediction.outcome });

function spoken({ prediction: { answer: said, truncated, notes }, choices }) {
  const index = said?.length === 1 ? said.charCodeAt(0) - 65 : -1;
  if (said !== null) return choices[index] ? `${said}. ${choices[index]}` : said;
  return `none (${truncated ? "it ran into its token limit" : notes.at(-1) ?? "the reply names none"})`;
}

// What is shown of a result.

function show(next, move = true) {
  entry = next;
  toggle($("panel"), entry);
  document.body.classList.toggle("with-panel", Boolean(entry));
  if (!entry) { boxes.set([]); return arrange(); }
  if (image !== entry.image) open(entry.image);
  $("asked").textContent = entry.question;
  const picked = entry.columns[0].record?.prediction.answer;
  $("options").replaceChildren(...entry.choices.map((each, index) =>
    el("li", { textContent: each, className: picked === String.fromCharCode(65 + index) ? "picked" : "" })));
  $("about").textContent = `${entry.image.name}, ${entry.image.width} × ${entry.image.height} pixels`;
  $("columns").replaceChildren();
  columns();
  arrange();
  evidence(move && entry.boxes.length > 0);
}

function columns() {
  const place = $("columns");
  while (place.children.length < entry.columns.length) place.append(el("article", { tabIndex: -1 }, el("h3"),
    el("p", { className: "thinking", tabIndex: 0, role: "region", ariaLabel: "Reasoning" }), el("p", { className: "answer" }), el("p", { className: "small" })));
  place.classList.toggle("two", entry.columns.length > 1);
  entry.columns.forEach(({ model, thinking, record, problem: wrong }, index) => {
    const [title, thought, said, cost] = place.children[index].children, done = record?.prediction;
    title.textContent = entry.given && index === 0 ? "From your boxes" : WAYS[model] ?? model;
    const down = thought.scrollTop + thought.clientHeight > thought.scrollHeight - 30;
    thought.textContent = done?.thinking || thinking || (done ? "It wrote no reasoning." : "");
    if (down && !done) thought.scrollTop = thought.scrollHeight;
    said.textContent = record ? spoken(record) : wrong ?? "…";
    said.classList.toggle("none", !done?.answer);
    const { total = 0, ...stages } = done?.seconds ?? {};
    cost.textContent = !done ? "" : `${total.toFixed(2)} s (${Object.entries(stages).map(([name, took]) => `${name} ${took.toFixed(2)}`).join(", ")}) · `
      + `${done.usage.prompt_tokens} + ${done.usage.completion_tokens} tokens, ${done.usage.calls} call${done.usage.calls > 1 ? "s" : ""} · ${done.reasoner}`;
  });
}

function evidence(fly) {
  boxes.set(entry.boxes);
  toggle($("steer"), false);
  const done = entry.columns[0].record?.prediction, notes = [OUTCOMES[entry.outcome], ...(done?.notes ?? []), ...(done?.dropped ?? [])];
  $("outcome").textContent = notes.filter(Boolean).join(" ");
  toggle($("outcome"), $("outcome").textContent);
  const shown = entry.crops.length ? entry.crops : entry.given ? entry.boxes.map((_, index) => boxes.rect(index).map(Math.round)) : [];
  $("crops").replaceChildren(...shown.map((rect, index) => {
    const sides = [rect[2] - rect[0], rect[3] - rect[1]], scale = Math.min(1, 220 / sides[0], 200 / sides[1]);
    const size = sides.map((side) => Math.max(1, Math.round(side * scale))), name = `${index + 1} ${entry.boxes[index]?.label ?? ""}`.trim();
    const button = el("button", { type: "button", className: `c${index % 8}`, title: "Show it at full size" },
      el("img", { src: regionUrl(entry.image.id, rect, size), alt: "", width: size[0], height: size[1] }),
      el("b", { textContent: name }), el("small", { textContent: `${sides[0]} × ${sides[1]}` }));
    button.onclick = () => viewer.fly(rect, { least: 1 / devicePixelRatio });
    for (const [kind, on] of [["pointerenter", true], ["pointerleave", false], ["focus", true], ["blur", false]])
      button.addEventListener(kind, () => boxes.mark(index, on));
    return el("li", {}, button);
  }));
  const ids = entry.columns.map(({ id }) => id).filter(Boolean), [first] = ids, busy = Boolean(running);
  toggle($("actions"), first);
  toggle($("compare"), entry.columns.length === 1);
  for (const name of ["compare", "again"]) $(name).disabled = busy;
  if (first) {
    $("link").href = `#result=${ids.join()}`;
    for (const [node, kind] of [[$("figure"), "png"], [$("json"), "json"]])
      Object.assign(node, { href: `page/results/${ids.at(-1)}.${kind}`, download: `p2r-${ids.at(-1).slice(0, 6)}.${kind}` });
  }
  arrange();
  if (!fly || !entry.boxes.length) return;
  const rects = entry.boxes.map((_, index) => boxes.rect(index)), all = [0, 1].map((side) => Math.min(...rects.map((each) => each[side])));
  all.push(...[2, 3].map((side) => Math.max(...rects.map((each) => each[side]))));
  const pad = [0, 1].map((side) => 0.6 * Math.max(all[side + 2] - all[side], 40));
  viewer.fly([all[0] - pad[0], all[1] - pad[1], all[2] + pad[0], all[3] + pad[1]], { most: 4 / devicePixelRatio });
}

// Links and history.

function address(hash) { history.replaceState(null, "", hash ? `#${hash}` : location.pathname); }

function remember(next) {
  const ids = next.columns.map(({ id }) => id).filter(Boolean), { id, name } = next.image;
  kept.results = [{ ids, question: next.question, answer: spoken(next.columns.find((each) => each.record).record), image: { id, name } },
    ...kept.results.filter((each) => each.ids[0] !== ids[0])].slice(0, KEPT);
  save();
  toggle($("past"), true);
  if (entry === next) address(`result=${ids.join()}`);
}

async function restore() {
  const [, kind, ids] = location.hash.match(/^#(result|image)=([\w,-]+)$/) ?? [];
  if (!kind) return;
  try {
    if (kind === "image") {
      const [found] = await json(`page/images?ids=${ids}`);
      return found ? open(known(found)) : problem(GONE);
    }
    const records = await Promise.all(ids.split(",").slice(0, 2).map((id) => json(`page/results/${id}.json`)));
    const [first] = records, { question, choices } = first;
    show({ image: known(first.image), question, choices, ...taken(first), given: first.prediction.mode === "p2r" && !first.prediction.outcome,
      columns: records.map((record) => ({ record, id: record.id, model: record.model, thinking: "" })) });
    fill(question, choices);
    stage(`Answer: ${spoken(first)}`);
  } catch (error) {
    problem(error instanceof Refused ? GONE : told(error));
  }
}

function fill(question, choices) {
  $("question").value = question;
  $("choices").value = choices.join("\n");
  options(choices.length > 0);
  $("question").dispatchEvent(new Event("input"));
}

function options(on) {
  toggle($("choices"), on);
  $("more").setAttribute("aria-expanded", on);
  arrange();
}

// The next question's settings: what differs from the server's own goes along.

function chosen() {
  const changed = RANGES.filter((name) => $(name).value !== $(name).defaultValue);
  const told = changed.map((name) => [name, name === "max_evidence" ? Number($(name).value) : Math.round(1e6 * $(name).value)]);
  const bounded = told.map(([name, value]) => [name, name === "max_evidence" ? value : Math.max(about.min_pixels, Math.min(value, about[name]))]);
  return { ...Object.fromEntries(bounded), ...($("type").value && { answer_type: $("type").value }) };
}

function range(name, most, value, step) {
  Object.assign($(name), { step, min: step, max: most, defaultValue: value, value });
  $(name).oninput = () => { $(name).parentElement.querySelector("output").textContent = $(name).value; };
  $(name).oninput();
}

// Where things are: the image is fitted into what nothing covers.

function arrange() {
  const narrow = matchMedia("(max-width: 760px)").matches, panel = $("panel"), top = document.querySelector("header").offsetHeight;
  const bar = innerHeight - $("bar").getBoundingClientRect().top;
  document.body.style.setProperty("--bar", `${bar}px`);
  const covered = panel.hidden ? 0 : narrow ? panel.offsetHeight : panel.offsetWidth + 12;
  viewer.insets = narrow ? [top, 0, bar + covered, 0] : [top, covered, bar, 56];
  boxes.place();
}

function stage(text, more = "") {
  $("stage").textContent = text;
  $("seconds").textContent = more;
}

// Wiring.

$("ask").onsubmit = (event) => {
  event.preventDefault();
  if (event.submitter === $("go") && running) running.abort.abort();
  else submit();
};
$("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
};
$("question").oninput = () => {
  $("question").style.height = "auto";
  $("question").style.height = `${Math.min(140, $("question").scrollHeight)}px`;
  arrange();
};
$("more").onclick = () => { options($("choices").hidden); if (!$("choices").hidden) $("choices").focus(); };
$("reason").onclick = () => submit(boxes.list);
$("again").onclick = () => { if (!running) ask({ ...entry, boxes: [], crops: [], given: false, columns: [] }, "p2r"); };
$("compare").onclick = () => { if (!running) ask(entry, /think|direct/.test(entry.columns[0].model) ? "p2r" : "p2r-think"); };
$("undo").onclick = () => { boxes.set(entry?.boxes ?? []); toggle($("steer"), false); arrange(); };
$("hide").onclick = () => { show(null); address(image?.id && `image=${image.id}`); viewer.fit(); };
$("link").onclick = (event) => {
  event.preventDefault();
  address($("link").hash.slice(1));
  const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
  copied.then(() => stage("The link is copied"), () => stage("The link is in the address bar"));
};
$("add").onclick = () => { toggle($("welcome"), $("welcome").hidden || !image); $("file").focus(); };
$("file").onchange = () => { sendAll([...$("file").files]); $("file").value = ""; };
$("fetch").onsubmit = async (event) => { event.preventDefault(); if (await send({ url: $("url").value, name: $("url").value })) $("url").value = ""; };
$("model").onclick = () => $("settings").showModal();
$("past").onclick = () => {
  $("entries").replaceChildren(...kept.results.map(({ ids, question, answer: said, image: { name } }) => {
    const button = el("button", { type: "button" }, el("b", { textContent: question }), el("span", { textContent: said }), el("small", { textContent: name }));
    button.onclick = () => { $("history").close(); location.hash = `result=${ids.join()}`; };
    return el("li", {}, button);
  }));
  $("history").showModal();
};
$("forget").onclick = () => { kept.results = []; save(); $("entries").replaceChildren(); toggle($("past"), false); $("history").close(); };
addEventListener("hashchange", restore);
addEventListener("resize", arrange);
const tools = { in: () => viewer.zoom(1.5, undefined, true), out: () => viewer.zoom(1 / 1.5, undefined, true), fit: () => viewer.fit(),
  own: () => viewer.own(), draw: () => image && boxes.draw(!boxes.drawing) };
$("tools").onclick = (event) => {
  const tool = event.target.closest("button")?.dataset.tool;
  if (tool === "draw" && image && event.detail === 0) boxes.addInMiddle(); // by keyboard
  else tools[tool]?.();
};
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "b" && image) boxes.draw(!boxes.drawing);
  else if (event.key === "/") { $("question").focus(); event.preventDefault(); }
  else if (event.key === "Escape") { boxes.draw(false); if (image) toggle($("welcome"), false); }
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files], text = event.clipboardData.getData("text/plain").trim();
  const typing = event.target.closest?.("input, textarea");
  if (files.length) sendAll(files);
  else if (about.fetches && !typing && /^https?:\/\/\S+$/.test(text)) send({ url: text, name: text });
  else return;
  event.preventDefault();
});
let inside = 0;
for (const [kind, change] of [["dragenter", 1], ["dragleave", -1], ["dragover", 0], ["drop", -Infinity]])
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    inside = Math.max(0, inside + change);
    document.body.classList.toggle("dropping", inside > 0);
    if (kind === "drop") sendAll([...event.dataTransfer.files]);
  });
viewer.addEventListener("view", () => { $("zoom").textContent = `${Math.round(100 * viewer.view.scale * devicePixelRatio)} %`; });
viewer.addEventListener("resized", () => { arrange(); if (image?.width) (entry?.boxes.length ? boxes.place() : viewer.fit(false)); });
viewer.addEventListener("failed", ({ detail }) => problem(detail instanceof Refused ? `The image: ${detail.message}` : told(detail)));
boxes.addEventListener("hot", ({ detail: { index, on } }) => {
  boxes.mark(index, on);
  $("crops").children[index]?.classList.toggle("hot", on);
});
boxes.addEventListener("mode", () => document.querySelector("[data-tool=draw]").setAttribute("aria-pressed", boxes.drawing));
boxes.addEventListener("edited", () => {
  const count = boxes.list.length;
  $("steer").firstElementChild.textContent = count ? `${count} ${count > 1 ? "boxes" : "box"} of yours` : "No boxes: the whole image";
  toggle($("steer"), true);
  arrange();
});
$("settings").querySelector("[type=reset]").onclick = () => setTimeout(() => RANGES.forEach((name) => $(name).oninput()));

$("mode").append(...about.models.map((name) => el("option", { value: name, textContent: WAYS[name] ?? name })));
range("max_evidence", about.most_crops, about.max_crops, 1);
for (const name of RANGES.slice(1)) range(name, Math.max(0.1, Math.round(about[name] / 1e5) / 10), Math.max(0.1, Math.round(about[name] / 1e5) / 10), 0.1);
$("models").textContent = about.perceiver === about.reasoner ? `Model: ${about.perceiver}` : `Perceiver: ${about.perceiver}; reasoner: ${about.reasoner}`;
toggle($("fetch"), about.fetches);
if (about.scenes_only) {
  $("note").textContent = `${about.reasoner} answers here: a very small model that knows scenes such as these and nothing else. About photographs its answers mean nothing; for those: p2r serve --model hongxingli/P2R-4B`;
  toggle($("note"), true);
}
$("examples").append(...about.examples.map(({ id, question, choices }) => {
  const button = el("button", { type: "button" }, el("img", { alt: "", src: `page/examples/${id}`, loading: "lazy" }), el("span", { textContent: question }));
  button.onclick = async () => { fill(question, choices); if (await send({ example: id, name: id })) $("question").focus(); };
  return el("li", {}, button);
}));
toggle($("past"), kept.results.length);
arrange();
kept.images = await json(`page/images?ids=${kept.images.map(({ id }) => id).join()}`);
kept.images.toReversed().forEach(known);
await restore();
shelve();
document.body.classList.add("ready");
