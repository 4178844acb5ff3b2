// The page: which image, which question, which result. What anybody wrote is shown as text, never as markup.
import { Boxes } from "./boxes.js";
import { Result, WAYS, el, show as reveal, spoken, thumbnail } from "./result.js";
import { Refused, answer, json, upload } from "./server.js";
import { Viewer } from "./viewer.js";

const $ = (id) => document.getElementById(id);
const LOCAL_BYTES = 15e6, KEPT = 60; // a file that is shown before it was sent; entries of the history
const GONE = "The server does not hold this any more.", NUMBERS = ["max_evidence", "overview_max_pixels", "crop_max_pixels"];
const viewer = new Viewer($("viewer")), boxes = new Boxes(viewer, $("boxes")), panel = new Result($("panel"), viewer, boxes);
const images = new Map(); // those that the server holds, by id
const kept = { results: [], images: [], ...JSON.parse(localStorage.getItem("p2r") ?? "{}") };
const about = await json("page/config");
let image = null, entry = null, running = null; // entry: a question about an image, with its answers

const save = () => localStorage.setItem("p2r", JSON.stringify(kept));
const told = (error) => error instanceof TypeError ? "The server cannot be reached." : error.message;
const address = (hash) => history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
function problem(text) { $("problem").textContent = text; reveal($("problem"), text); }
function stage(text, more = "") { $("stage").textContent = text; $("seconds").textContent = more; }

// Images. Each is asked about under the id that the server gave to it, whatever is shown meanwhile.
function known(record) {
  if (!images.has(record.id)) images.set(record.id, { ...record, ready: Promise.resolve() });
  return images.get(record.id);
}

function open(next, bitmap) {
  image = next;
  document.body.classList.toggle("empty", !image);
  reveal($("welcome"), !image);
  boxes.set([]);
  arrange();
  viewer.open(image, bitmap);
  shelve();
}

function shelve() {
  $("images").replaceChildren(...[...images.values()].slice(-12).map((each) => {
    const { id, name, width, height } = each;
    const button = el("button", { type: "button", title: name, ariaLabel: name, ariaPressed: each === image },
      thumbnail(id, [0, 0, width, height], 160, 160));
    button.onclick = () => { show(running?.next.image === each ? running.next : null); if (image !== each) open(each); address(`image=${id}`); };
    return button;
  }));
}

async function send(file) {
  const next = { name: file.name || "pasted image" }, before = image, named = () => { show(null); open(next); };
  problem("");
  stage(`Sending ${next.name}`);
  next.ready = upload(file, (share) => { if (!running && !next.id) stage(`Sending ${next.name}`, `${Math.round(100 * share)} %`); })
    .then((record) => images.set(record.id, Object.assign(next, record)));
  next.ready.catch(() => null); // told below, and to a question that waits for it
  if (file.size < LOCAL_BYTES) {
    const bitmap = await createImageBitmap(file).catch(() => null);
    if (bitmap && !next.id && image === before) {
      Object.assign(next, { width: bitmap.width, height: bitmap.height });
      show(null);
      open(next, bitmap);
    }
  }
  try {
    await next.ready;
  } catch (error) {
    if (image === next) { show(null); open(null); }
    if (!running) stage("");
    return problem(`${next.name}: ${told(error)}`);
  }
  const { id, name, width, height } = next;
  kept.images = [{ id, name, width, height }, ...kept.images].slice(0, 12);
  save();
  if (!running) stage("");
  if (image === before && image !== next) named();
  if (image === next) { viewer.refresh(); address(`image=${id}`); }
  shelve();
}

async function sendAll(files) { for (const file of files) await send(file); if (files.length && image) $("question").focus(); }

// Questions. One at a time: while it runs, Ask is Stop.
async function ask(next, model, given) {
  const column = { model, thinking: "" }, abort = new AbortController(), begin = performance.now();
  const clock = setInterval(() => { $("seconds").textContent = `${((performance.now() - begin) / 1000).toFixed(1)} s`; }, 100);
  next.columns.push(column);
  running = { next, abort };
  problem("");
  options(false);
  $("go").textContent = "Stop";
  show(next);
  const text = [next.question, ...next.choices.map((each, index) => `${String.fromCharCode(65 + index)}. ${each}`)].join("\n");
  const p2r = { ...settings(next), ...(given && { boxes: given }) };
  try {
    stage("Sending the image");
    await Promise.race([next.image.ready, new Promise((_, no) => { abort.signal.onabort = () => no(abort.signal.reason); })]);
    stage("Waiting for its turn");
    const content = [{ type: "image_url", image_url: { url: `p2r-image:${next.image.id}` } }, { type: "text", text }];
    for await (const { begun, seen, thinking, result } of answer({ model, messages: [{ role: "user", content }], p2r }, abort.signal)) {
      if (begun) stage(given || /think|direct/.test(model) ? "Reasoning" : "Looking at the whole image");
      if (seen) {
        Object.assign(next, { boxes: seen.boxes, crops: seen.crops_px, outcome: seen.outcome });
        stage(`Reasoning about ${next.crops.length ? `${next.crops.length} region${next.crops.length > 1 ? "s" : ""}` : "the whole image"}`);
        if (entry === next) { panel.evidence(); arrange(); panel.fly(); }
      }
      column.thinking += thinking;
      column.id = result ?? column.id;
      if (entry === next) panel.columns();
    }
    column.record = await json(`page/results/${column.id}.json`);
    if (column === next.columns[0]) Object.assign(next, evidence(column.record));
    remember(next);
    $("said").textContent = `Answer: ${spoken(column.record)}`;
    stage(entry === next ? "" : `“${next.question}” was answered: ${spoken(column.record)}`);
  } catch (error) {
    stage(error.name === "AbortError" ? "Stopped" : "");
    column.problem = error.name === "AbortError" ? "Stopped before it was answered." : `No answer: ${told(error)}`;
    if (error.name !== "AbortError") problem(column.problem);
  }
  clearInterval(clock);
  $("seconds").textContent = "";
  $("go").textContent = "Ask";
  running = null;
  if (entry === next) panel.show(next);
}

function submit(given) {
  if (running) return stage(`${$("stage").textContent.split(" (")[0]} (one at a time: Stop it first)`);
  const question = $("question").value.trim(), choices = lines();
  if (!image) return problem("Open an image first.");
  if (!question) { $("question").focus(); return problem("What do you want to know about the image?"); }
  if (choices.length === 1) return problem("One option is none: give at least two, or leave them out.");
  ask({ image, question, choices, boxes: given ?? [], crops: [], given: Boolean(given), columns: [] }, given ? "p2r" : $("mode").value, given);
}

const lines = () => $("choices").value.split("\n").map((each) => each.replace(/^\s*\(?[A-Z][.):]\s+/, "").trim()).filter(Boolean);
const evidence = ({ prediction }) => ({ boxes: prediction.boxes, crops: prediction.crops_px, outcome: prediction.outcome });

function show(next) {
  entry = next;
  document.body.classList.toggle("with-panel", Boolean(entry));
  if (entry && image !== entry.image) open(entry.image);
  if (!entry) boxes.set([]);
  reveal($("steer"), false);
  panel.show(entry);
  arrange();
  if (entry) panel.fly();
}

function fill(question, choices) { $("question").value = question; $("choices").value = choices.join("\n"); options(false); }

function options(on) {
  reveal($("choices"), on);
  $("more").ariaExpanded = on;
  $("more").textContent = lines().length ? `Options (${lines().length})` : "Options";
}

// What differs from the server's own settings goes along with a question.
function settings({ choices }) {
  const changed = NUMBERS.filter((name) => $(name).value !== $(name).defaultValue).map((name) => [name, Number($(name).value)]);
  return { ...Object.fromEntries(changed), ...($("type").value && !choices.length && { answer_type: $("type").value }) };
}

// Links and history.
function remember(next) {
  const ids = next.columns.flatMap(({ id, record }) => record ? [id] : []), { name } = next.image;
  kept.results = [{ ids, name, question: next.question, answer: spoken(next.columns.find((each) => each.record).record) },
    ...kept.results.filter((each) => each.ids[0] !== ids[0])].slice(0, KEPT);
  save();
  reveal($("past"), true);
  if (entry === next) address(`result=${ids.join()}`);
}

async function restore() {
  const [, kind, ids] = location.hash.match(/^#(result|image)=([\w,~-]+)$/) ?? [];
  problem("");
  try {
    if (kind === "image") {
      const [found] = await json(`page/images?ids=${ids}`);
      show(null);
      if (found) open(known(found)); else problem(GONE);
    } else if (kind) {
      const records = await Promise.all(ids.split(",").slice(0, 2).map((id) => json(`page/results/${id}.json`)));
      const [first] = records, { question, choices } = first;
      show({ image: known(first.image), question, choices, ...evidence(first), given: first.prediction.mode === "p2r" && !first.prediction.outcome,
        columns: records.map((record) => ({ record, id: record.id, model: record.model, thinking: "" })) });
      fill(question, choices);
    }
  } catch (error) {
    problem(error instanceof Refused ? GONE : told(error));
  }
}

// The image is fitted into what nothing covers.
function arrange() {
  const narrow = matchMedia("(max-width: 760px)").matches, bar = $("bar").offsetHeight, top = document.querySelector("header").offsetHeight;
  document.body.style.setProperty("--bar", `${bar}px`);
  const covered = $("panel").hidden ? 0 : narrow ? $("panel").offsetHeight : $("panel").offsetWidth + 12;
  viewer.insets = narrow ? [top + 48, 0, bar + covered, 0] : [top, covered, bar, 56];
  boxes.place();
}

// Wiring.
$("ask").onsubmit = (event) => { event.preventDefault(); if (running && event.submitter === $("go")) running.abort.abort(); else submit(); };
$("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
};
$("more").onclick = () => { options($("choices").hidden); $("choices").focus(); };
$("reason").onclick = () => submit(boxes.list);
$("undo").onclick = () => { boxes.set(entry?.boxes ?? []); reveal($("steer"), false); };
$("again").onclick = () => ask({ ...entry, boxes: [], crops: [], outcome: null, given: false, columns: [] }, "p2r");
$("compare").onclick = () => ask(entry, /think|direct/.test(entry.columns[0].model) ? "p2r" : "p2r-think");
$("hide").onclick = () => { show(null); address(`image=${image.id}`); viewer.fit(); };
$("link").onclick = (event) => {
  event.preventDefault();
  address($("link").hash.slice(1));
  const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
  copied.then(() => stage("The link is copied"), () => stage("The link is in the address bar"));
};
$("add").onclick = () => { reveal($("welcome"), $("welcome").hidden || !image); $("file").focus(); };
$("file").onchange = () => { sendAll([...$("file").files]); $("file").value = ""; };
$("fetch").onsubmit = (event) => { event.preventDefault(); send({ url: $("url").value, name: $("url").value.split(/[?#]/)[0].split("/").at(-1) }); };
$("gear").onclick = () => $("settings").showModal();
$("past").onclick = () => {
  $("entries").replaceChildren(...kept.results.map(({ ids, name, question, answer: said }) => {
    const button = el("button", {}, el("b", { textContent: question }), el("span", { textContent: said }), el("small", { textContent: name }));
    button.onclick = () => { location.hash = `result=${ids.join()}`; };
    return el("li", {}, button);
  }));
  $("history").showModal();
};
$("forget").onclick = () => { kept.results = []; save(); reveal($("past"), false); $("history").close(); };
const drawing = (event) => { if (image) { if (event?.detail === 0) boxes.addInMiddle(); else boxes.draw(!boxes.drawing); } };
const tools = { in: () => viewer.zoom(1.5), out: () => viewer.zoom(1 / 1.5), fit: () => viewer.fit(), own: () => viewer.own(), draw: drawing };
$("tools").onclick = (event) => tools[event.target.dataset.tool]?.(event); // detail 0: by the keyboard
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "b") drawing();
  else if (event.key === "/") { $("question").focus(); event.preventDefault(); }
  else if (event.key === "Escape") { boxes.draw(false); if (image) reveal($("welcome"), false); }
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files], text = event.clipboardData.getData("text/plain").trim();
  if (files.length) sendAll(files);
  else if (about.fetches && !event.target.closest?.("input, textarea") && /^https?:\/\/\S+$/.test(text)) send({ url: text, name: text });
  else return;
  event.preventDefault();
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover" || (kind === "dragleave" && event.relatedTarget));
    if (kind === "drop") sendAll([...event.dataTransfer.files]);
  });
addEventListener("hashchange", restore);
const sizes = new ResizeObserver(arrange);
for (const each of [$("bar"), $("panel"), document.querySelector("header")]) sizes.observe(each);
viewer.addEventListener("view", () => { $("zoom").textContent = `${Math.round(100 * viewer.view.scale * devicePixelRatio)} %`; });
viewer.addEventListener("resized", () => { arrange(); if (image?.width && !entry) viewer.fit(false); });
viewer.addEventListener("failed", ({ detail }) => problem(detail instanceof Refused ? `The image: ${detail.message}` : told(detail)));
boxes.addEventListener("mode", () => { document.querySelector("[data-tool=draw]").ariaPressed = boxes.drawing; });
boxes.addEventListener("edited", () => {
  const count = boxes.list.length;
  $("steer").firstElementChild.textContent = count ? `${count} ${count > 1 ? "boxes" : "box"}, changed by you` : "No box: the whole image";
  reveal($("steer"), true);
});

$("mode").append(...about.models.map((name) => el("option", { value: name, textContent: WAYS[name] ?? name })));
for (const [name, value, most] of [["max_evidence", ...about.evidence], ...NUMBERS.slice(1).map((name) => [name, about.budget[name], about.budget[name]])])
  Object.assign($(name), { defaultValue: value, max: most, min: name === "max_evidence" ? 1 : about.budget.min_pixels });
$("models").textContent = about.names[0] === about.names[1] ? `Model: ${about.names[0]}` : `Perceiver: ${about.names[0]}; reasoner: ${about.names[1]}`;
reveal($("fetch"), about.fetches);
reveal($("note"), about.scenes_only);
$("note").textContent = `${about.names[1]} answers here: a very small model that knows scenes such as these and nothing else. Its answers about `
  + "photographs mean nothing; for those: p2r serve --model hongxingli/P2R-4B";
$("examples").append(...about.examples.map(({ question, choices, image: record }) => {
  const image = thumbnail(record.id, [0, 0, record.width, record.height], 320, 320);
  const button = el("button", { type: "button" }, image, el("span", { textContent: question }));
  button.onclick = () => { show(null); open(known(record)); fill(question, choices); address(`image=${record.id}`); $("question").focus(); };
  return el("li", {}, button);
}));
reveal($("past"), kept.results.length);
arrange();
if (kept.images.length) kept.images = await json(`page/images?ids=${kept.images.map(({ id }) => id)}`);
kept.images.toReversed().forEach(known);
await restore();
shelve();
document.body.classList.add("ready");
