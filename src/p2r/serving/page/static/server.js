// What the page asks of the server: uploads, regions, results, and answers as they come.
export class Refused extends Error {}

async function checked(response) {
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new Refused(told?.error?.message ?? `the server answered with status ${response.status}`);
}

export const json = async (url) => (await checked(await fetch(url))).json();

// Sends a file, or the address from which the server gets one, and tells how much of it is there (0–1).
export function upload(file, onprogress) {
  const { promise, resolve, reject } = Promise.withResolvers(), request = new XMLHttpRequest();
  request.open("POST", `page/images?${new URLSearchParams({ name: file.name || "pasted image", url: file.url ?? "" })}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.responseType = "json";
  request.upload.onprogress = (event) => onprogress(event.loaded / event.total);
  request.onload = () => request.status === 200 ? resolve(request.response)
    : reject(new Refused(request.response?.error?.message ?? `the server answered with status ${request.status}`));
  request.onerror = () => reject(new TypeError("no connection"));
  request.send(file.url ? "" : file);
  return promise;
}

export const regionUrl = (id, rect, size) => `page/images/${id}/region?rect=${rect.join()}&size=${size.join()}`;

export async function region(id, rect, size, signal) {
  const response = await checked(await fetch(regionUrl(id, rect, size), { signal }));
  return createImageBitmap(await response.blob());
}

// The events of an answer: `begun`, `seen`, `thinking`, and at the end `result`, under which the server holds it.
export async function* answer(body, signal) {
  const response = await checked(await fetch("v1/chat/completions", { method: "POST", signal,
    headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...body, stream: true }) }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused("the server ended before the answer was there");
    const lines = (text + value).split("\n\n");
    text = lines.pop();
    for (const line of lines.filter((each) => each.startsWith("data: "))) {
      if (line === "data: [DONE]") return;
      const { error, choices, p2r: seen } = JSON.parse(line.slice(6)), delta = choices?.[0]?.delta ?? {};
      if (error) throw new Refused(error.message);
      yield { begun: delta.role, seen, thinking: delta.reasoning_content ?? "", result: delta.p2r?.result };
    }
  }
}
