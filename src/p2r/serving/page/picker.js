// Takes a picture by choosing, dropping or pasting it, sends it to the server, and says what became of it.
// `element`, `props` and `trigger` are Gradio's; the value is the name under which the server keeps it.
const input = element.querySelector("input[type=file]");
const drop = element.querySelector(".p2r-drop");
const image = element.querySelector("img");
const said = element.querySelector("[role=status]");

const say = (text, refused) => {
  said.textContent = text;
  said.classList.toggle("p2r-problem", Boolean(refused));
};

const show = () => {
  const name = props.value;
  image.hidden = !name;
  if (name) image.src = "page/pictures/" + encodeURIComponent(name);
  else image.removeAttribute("src");
};

const take = async (file) => {
  if (!file) return;
  const named = file.name || "the pasted picture";
  say("Sending " + named + " …");
  try {
    const reply = await fetch("page/pictures", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    });
    const told = await reply.json();
    if (!reply.ok) throw new Error(told.error.message);
    props.value = told.name;
    show();
    say(named + ", " + told.width + " × " + told.height + " pixels");
  } catch (error) {
    props.value = "";
    show();
    say("Refused: " + (error instanceof TypeError ? "the server cannot be reached" : error.message), true);
  }
};

input.addEventListener("change", () => {
  take(input.files[0]);
  input.value = "";
});
for (const kind of ["dragenter", "dragover"])
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("p2r-over");
  });
for (const kind of ["dragleave", "drop"])
  drop.addEventListener(kind, () => drop.classList.remove("p2r-over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  take(file);
});
watch("value", () => {
  show();
  if (props.value) say("An example: " + props.value);
});
