// What the page asks of the server: uploads, regions, results, and answers as they come.

// A reply that is an error. Without any reply, a TypeError is thrown.
class Refused extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `the server answered with status ${status}`);
    this.status = status;
  }
}

async function request(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
  return response;
}

export const json = async (url) => (await request(url)).json();

// Sends a file, or the address from which the server gets one, and tells how much of it is there (0–1).
export function upload(file, onprogress) {
  const sending = new XMLHttpRequest(); // fetch does not tell how much was sent
  sending.open("POST", `page/images?${new URLSearchParams({ name: file.name, url: file.url ?? "" })}`);
  sending.setRequestHeader("Content-Type", "application/octet-stream");
  sending.responseType = "json";
  sending.upload.onprogress = (event) => onprogress(event.loaded / event.total);
  return new Promise((resolve, reject) => {
    sending.onload = () => {
      if (sending.status === 200) resolve(sending.response);
      else reject(new Refused(sending.status, sending.response));
    };
    sending.onerror = () => reject(new TypeError("no connection"));
    sending.send(file.url ? "" : file);
  });
}

export const regionUrl = (id, rect, size) => `page/images/${id}/region?rect=${rect}&size=${size}`;

export async function region(id, rect, size, signal) {
  const response = await request(regionUrl(id, rect, size), { signal });
  return createImageBitmap(await response.blob());
}

// The events of an answer: `begun`, `seen`, `thinking`, and at the end `result`, its id at the server.
export async function* answer(question, signal) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ ...question, stream: true });
  const response = await request("v1/chat/completions", { method: "POST", headers, body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the server ended before the answer was there");
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events.filter((each) => each.startsWith("data: "))) {
      if (event === "data: [DONE]") return;
      const { error, choices, p2r: seen } = JSON.parse(event.slice(6)), delta = choices?.[0]?.delta ?? {};
      if (error) throw new Error(error.message);
      yield { begun: delta.role, seen, thinking: delta.reasoning_content ?? "", result: delta.p2r?.result };
    }
  }
}
