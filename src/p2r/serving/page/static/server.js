// What the page asks of the server: uploads, regions, results, and answers as they come.

export class Refused extends Error {}

async function checked(response) {
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new Refused(told?.error?.message ?? `the server answered with status ${response.status}`);
}

export const json = async (url, options) => (await checked(await fetch(url, options))).json();

// Sends a file and tells how much of it is there, 0–1.
export function upload(file, onprogress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `page/images?name=${encodeURIComponent(file.name || "pasted image")}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = (event) => onprogress(event.loaded / event.total);
    request.onload = () => request.status === 200 ? resolve(request.response)
      : reject(new Refused(request.response?.error?.message ?? `status ${request.status}`));
    request.onerror = () => reject(new TypeError("the server cannot be reached"));
    request.send(file);
  });
}

// An image that the server gets itself: from an address, or one of its examples.
export const named = (what) => json("page/images", {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });

export const regionUrl = (id, rect, size) => `page/images/${id}/region?rect=${rect.join()}&size=${size.join()}`;

export async function region(id, rect, size, signal) {
  const response = await checked(await fetch(regionUrl(id, rect, size), { signal }));
  return createImageBitmap(await response.blob());
}

// The events of an answer: `{stage}`, `{seen}`, `{thinking}`, and at the end `{result}`, the id of the result.
export async function* answer(body, signal) {
  const response = await checked(await fetch("v1/chat/completions", {
    method: "POST", signal, headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }) }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = "", end; ;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused("the server ended before the answer was there");
    text += value;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const line = text.slice(0, end);
      text = text.slice(end + 2);
      if (line === "data: [DONE]") return;
      if (!line.startsWith("data: ")) continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refused(event.error.message);
      const delta = event.choices?.[0]?.delta ?? {};
      if (delta.role) yield { begun: true };
      if (event.p2r) yield { seen: event.p2r };
      if (delta.reasoning_content) yield { thinking: delta.reasoning_content };
      if (delta.p2r) yield { result: delta.p2r.result };
    }
  }
}
