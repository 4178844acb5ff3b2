// Elements of the page, its status lines, its address. What anybody wrote is shown as text, never as markup.

export const GONE = "The server does not hold this any more.";

export const $ = (id) => document.getElementById(id);
export const reveal = (node, on) => { node.hidden = !on; };
export const address = (hash) => history.replaceState(null, "", `#${hash}`);

export function el(tag, props = {}, ...children) {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children);
  return made;
}

// What goes on and how far it is: a text, or the time since when it goes on, which is shown in seconds.
const clocks = new Map();
export function status(id, text, progress = "") {
  const [said, shown] = $(id).children, timed = typeof progress === "number";
  const tick = () => {
    shown.textContent = timed ? `${((performance.now() - progress) / 1000).toFixed(1)} s` : progress;
  };
  clearInterval(clocks.get(id));
  if (timed) clocks.set(id, setInterval(tick, 100));
  said.textContent = text;
  // For screen readers: this element is always there. Each region of a pan would be too much.
  if (text && id !== "loading") $("said").textContent = text;
  reveal($(id), text);
  tick();
}

export function problem(text) {
  $("problem").textContent = text;
  reveal($("problem"), text);
}

export function explained(error) {
  if (error instanceof TypeError) return "The server cannot be reached."; // what fetch throws
  return error.status === 404 ? GONE : error.message;
}
