// The page: it brings together the image, the boxes on it, the questions and their results.
import { ask, evidence, looks } from "./ask.js";
import { Boxes } from "./boxes.js";
import { rememberResult } from "./history.js";
import { Images, thumbnail } from "./images.js";
import { $, GONE, address, el, explained, problem, reveal, status } from "./page.js";
import { Result, WAYS, spoken } from "./result.js";
import { json } from "./server.js";
import { Viewer } from "./viewer.js";

const NUMBERS = ["max_evidence", "looks", "overview_max_pixels", "crop_max_pixels"]; // settings of a question
const header = document.querySelector("header");
const viewer = new Viewer($("viewer"));
const boxes = new Boxes(viewer, $("boxes"));
const panel = new Result($("panel"), viewer, boxes);
let entry = null; // the result that is shown
let running = null; // {entry, abort} while a question runs
let about = null; // what the server says about itself

// What is shown.

const images = new Images({
  onopen(image, bitmap) {
    show(null);
    document.body.classList.toggle("empty", !image);
    reveal($("welcome"), !image);
    status("loading", "");
    viewer.open(image, bitmap);
  },
  onpick(image) {
    if (image !== images.shown) images.open(image);
    show(running?.entry.image === image ? running.entry : null);
    address(`image=${image.id}`);
  },
  onsent(image) {
    viewer.refresh();
    address(`image=${image.id}`);
  },
});

function show(next) {
  if (next && images.shown !== next.image) images.open(next.image);
  entry = next;
  document.body.classList.toggle("with-panel", Boolean(entry));
  panel.show(entry);
  showBoxes();
  arrange();
  if (entry) panel.fly();
}

function showBoxes() {
  boxes.set(entry?.boxes ?? []);
  reveal($("steer"), false);
}

// The image is fitted into what nothing covers.
function arrange() {
  const [top, bottom] = [header.offsetHeight, $("bar").offsetHeight];
  const { offsetWidth: width, offsetHeight: height } = $("panel");
  const narrow = matchMedia("(max-width: 760px)").matches;
  document.body.style.setProperty("--bar", `${bottom}px`);
  const wide = [top, width && width + 12, bottom, $("tools").offsetWidth];
  viewer.insets = narrow ? [top + 48, 0, bottom + height, 0] : wide;
  boxes.place();
}

const sizes = new ResizeObserver(arrange);
for (const each of [header, $("bar"), $("panel")]) sizes.observe(each);
viewer.addEventListener("resized", () => {
  arrange();
  if (!entry) viewer.fit(false);
});
viewer.addEventListener("view", () => {
  $("zoom").textContent = `${Math.round(100 * viewer.view.scale * devicePixelRatio)} %`;
});
viewer.addEventListener("loading", () => {
  status("loading", viewer.empty ? "Preparing the image" : "Loading details", performance.now());
});
viewer.addEventListener("loaded", () => status("loading", ""));
viewer.addEventListener("failed", ({ detail: error }) => {
  status("loading", "");
  problem(explained(error));
});

// Questions. One at a time: while it runs, Ask is Stop.

function options() {
  const lines = $("choices").value.split("\n");
  return lines.map((line) => line.replace(/^\s*\(?[A-Z][.):]\s+/, "").trim()).filter(Boolean); // without A.
}

function openOptions(on) {
  const count = options().length;
  reveal($("choices"), on);
  $("more").ariaExpanded = on;
  $("more").textContent = count ? `Options (${count})` : "Options";
}

function fill(question, choices) {
  $("question").value = question;
  $("choices").value = choices.join("\n");
  openOptions(false);
}

// What differs from the server's own settings goes along with a question.
function settings() {
  const changed = NUMBERS.filter((name) => $(name).value !== $(name).defaultValue);
  return Object.fromEntries(changed.map((name) => [name, Number($(name).value)]));
}

// Ask what is in the bar; with boxes, the model reasons from these.
function submit(given) {
  const image = images.shown, question = $("question").value.trim(), choices = options();
  if (running) return problem("One question at a time: Stop ends the one that runs.");
  if (!image) return problem("Open an image first.");
  if (!question) {
    $("question").focus();
    return problem("What do you want to know about the image?");
  }
  if (choices.length === 1) return problem("One option is none: give at least two, or leave them out.");
  if (choices.length > 26) return problem(`There are ${choices.length} options: give at most 26 (A to Z).`);
  const next = { image, question, choices, given: Boolean(given), boxes: given ?? [], crops: [] };
  run({ ...next, columns: [] }, given ? "p2r" : $("mode").value, given && { boxes: given });
}

// Ask a model the question of an entry: one more column of it.
async function run(next, model, more) {
  const column = { model, thinking: "" }, abort = new AbortController(), begin = performance.now();
  running = { entry: next, abort };
  next.columns.push(column);
  problem("");
  openOptions(false);
  $("go").textContent = "Stop";
  show(next);
  let ended = "";
  try {
    const p2r = { ...settings(), ...more };
    for await (const { stage, seen } of ask(next, column, p2r, abort.signal)) {
      if (stage) status("stage", stage, begin);
      if (seen && entry === next) show(next);
      if (entry === next) panel.write();
    }
    const said = spoken(column.record);
    problem("");
    remember(next);
    if (entry === next) $("said").textContent = `Answer: ${said}`;
    else ended = `“${next.question}” was answered: ${said}`;
  } catch (error) {
    const stopped = error.name === "AbortError";
    column.problem = stopped ? "Stopped before it was answered." : `No answer: ${explained(error)}`;
    problem(stopped ? "" : column.problem);
    if (stopped) ended = "Stopped";
  }
  running = null;
  $("go").textContent = "Ask";
  status("stage", ended);
  if (entry === next) panel.update();
}

// Links and history.

function remember(next) {
  const answered = next.columns.filter(({ record }) => record), ids = answered.map(({ id }) => id);
  const { question, image: { name } } = next;
  rememberResult({ ids, name, question, answer: spoken(answered[0].record) });
  if (entry === next) address(`result=${ids.join()}`);
}

// Show what the address names: an image, or a result of one or two answers.
async function restore() {
  const [, kind, ids] = location.hash.match(/^#(result|image)=([\w,~-]+)$/) ?? [];
  problem("");
  try {
    if (kind === "image") {
      const [found] = await json(`page/images?ids=${ids}`);
      if (found) images.open(images.known(found));
      else problem(GONE);
    } else if (kind === "result") {
      showRecords(await Promise.all(ids.split(",").slice(0, 2).map((id) => json(`page/results/${id}.json`))));
    }
  } catch (error) {
    problem(explained(error));
  }
}

function showRecords(records) {
  const [{ question, choices, image, prediction }] = records;
  const columns = records.map((record) => ({ record, id: record.id, model: record.model, thinking: "" }));
  const given = prediction.mode === "p2r" && !prediction.outcome;
  const looked = records.find(({ model }) => looks(model)) ?? records[0];
  show({ image: images.known(image), question, choices, given, columns, ...evidence(looked.prediction) });
  fill(question, choices);
}

addEventListener("hashchange", restore);
$("link").onclick = (event) => {
  event.preventDefault();
  address($("link").hash.slice(1));
  const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject();
  const say = (text) => () => status("stage", text);
  copied.then(say("The link is copied"), say("The link is in the address bar"));
};

// Buttons and keys.

$("ask").onsubmit = (event) => {
  event.preventDefault();
  if (running) running.abort.abort();
  else submit();
};
$("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
};
$("more").onclick = () => {
  openOptions($("choices").hidden);
  $("choices").focus();
};
$("reason").onclick = () => {
  submit(boxes.list);
  $("go").focus();
};
$("undo").onclick = () => {
  showBoxes();
  $("viewer").focus();
};
$("again").onclick = () =>
  run({ ...entry, outcome: null, given: false, boxes: [], crops: [], columns: [] }, "p2r");
$("compare").onclick = () => run(entry, looks(entry.columns[0].model) ? "p2r-think" : "p2r");
$("hide").onclick = () => {
  show(null);
  address(`image=${images.shown.id}`);
  viewer.fit();
  $("viewer").focus();
};
$("gear").onclick = () => $("settings").showModal();

const tools = {
  in: () => viewer.zoom(1.5),
  out: () => viewer.zoom(1 / 1.5),
  fit: () => viewer.fit(),
  own: () => viewer.own(),
  draw(byKeyboard) {
    if (images.shown && byKeyboard) boxes.addInMiddle();
    else if (images.shown) boxes.draw(!boxes.drawing);
  },
};
$("tools").onclick = ({ target, detail: clicks }) => tools[target.dataset.tool]?.(!clicks);
boxes.addEventListener("mode", () => { $("draw").ariaPressed = boxes.drawing; });
boxes.addEventListener("edited", () => {
  const count = boxes.list.length, named = `${count} ${count > 1 ? "boxes" : "box"}, changed by you`;
  $("steer").firstElementChild.textContent = count ? named : "No box: the whole image";
  reveal($("steer"), true);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  if (event.key === "b") tools.draw();
  if (event.key === "Escape") boxes.draw(false);
  if (event.key === "Escape" && images.shown) reveal($("welcome"), false);
});

// Ways to give an image.

$("add").onclick = () => {
  reveal($("welcome"), $("welcome").hidden || !images.shown);
  $("file").focus();
};
$("file").onchange = () => {
  images.send([...$("file").files]);
  $("file").value = "";
};
$("fetch").onsubmit = (event) => {
  event.preventDefault();
  sendAddress($("url").value);
};
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files], text = event.clipboardData.getData("text/plain").trim();
  const writing = event.target.closest?.("input, textarea");
  if (files.length) images.send(files);
  else if (about?.fetches && !writing && /^https?:\/\/\S+$/.test(text)) sendAddress(text);
  else return;
  event.preventDefault();
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    const inside = kind === "dragover" || (kind === "dragleave" && event.relatedTarget);
    event.preventDefault();
    document.body.classList.toggle("dropping", Boolean(inside));
    if (kind === "drop") images.send([...event.dataTransfer.files]);
  });

const sendAddress = (url) => images.send([{ url, name: url.split(/[?#]/)[0].split("/").at(-1) || url }]);

// What the server says about itself.

function introduce({ models, names: [perceiver, reasoner], scenes_only: scenesOnly, fetches, ...more }) {
  const [crops, mostCrops] = more.evidence, { budget } = more;
  $("mode").append(...models.map((name) => el("option", { value: name, textContent: WAYS[name] ?? name })));
  Object.assign($("max_evidence"), { defaultValue: crops, max: mostCrops });
  Object.assign($("looks"), { defaultValue: more.looks[0], max: more.looks[1] });
  for (const name of NUMBERS.slice(2))
    Object.assign($(name), { defaultValue: budget[name], max: budget[name], min: budget.min_pixels });
  const both = `Perceiver: ${perceiver}; reasoner: ${reasoner}`;
  $("models").textContent = perceiver === reasoner ? `Model: ${reasoner}` : both;
  reveal($("fetch"), fetches);
  reveal($("note"), scenesOnly);
  $("note").textContent = `${reasoner} answers here: a very small model that knows scenes such as these and `
    + "nothing else. About photographs, its answers mean nothing: use p2r serve --model hongxingli/P2R-4B";
  $("examples").append(...more.examples.map(example));
}

function example({ question, choices, image: record }) {
  const image = thumbnail(record.id, [0, 0, record.width, record.height], 320, 320);
  const button = el("button", { type: "button" }, image, el("span", { textContent: question }));
  button.onclick = () => {
    images.open(images.known(record));
    fill(question, choices);
    address(`image=${record.id}`);
    $("question").focus();
  };
  return el("li", {}, button);
}

$("go").disabled = false;
arrange();
if ($("file").files.length) $("file").onchange(); // chosen before this ran
try {
  about = await json("page/config");
  introduce(about);
  await images.recall();
  await restore();
} catch (error) {
  problem(explained(error));
}
document.body.classList.add("ready");
