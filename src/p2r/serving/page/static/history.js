// What this browser remembers: the newest results and images. The server holds these for a while.
import { $, el, reveal } from "./page.js";

const RESULTS = 60, IMAGES = 12;
const kept = { results: [], images: [] };
try {
  Object.assign(kept, JSON.parse(localStorage.getItem("p2r")));
} catch { /* there is no storage: nothing is remembered */ }

function keep(changed) {
  Object.assign(kept, changed);
  reveal($("past"), kept.results.length);
  try {
    localStorage.setItem("p2r", JSON.stringify(kept));
  } catch { /* it is full, or there is none */ }
}

export const rememberedImages = () => kept.images;
export const rememberImages = (images) => keep({ images: images.slice(0, IMAGES) });

// A result is {ids, name, question, answer}; it replaces the one that begins with the same answer.
export function rememberResult(result) {
  const others = kept.results.filter(({ ids }) => ids[0] !== result.ids[0]);
  keep({ results: [result, ...others].slice(0, RESULTS) });
}

$("past").onclick = () => {
  $("entries").replaceChildren(...kept.results.map(({ ids, name, question, answer }) => {
    const button = el("button", {}, el("b", { textContent: question, dir: "auto" }),
      el("span", { textContent: answer, dir: "auto" }), el("small", { textContent: name }));
    button.onclick = () => { location.hash = `result=${ids.join()}`; };
    return el("li", {}, button);
  }));
  $("history").showModal();
};
$("forget").onclick = () => {
  keep({ results: [] });
  $("history").close();
};
keep({});
