// The events of a job, from a stream that is resumed where it broke off. EventSource cannot send an API key.
import { openStream, problemFrom } from "./api.js";

const RETRY_MS = 1500;
const MAX_FAILURES = 20;

// Calls `onEvent({type, data})` until the job is finished.
export async function followJob(id, { signal, onEvent }) {
  const place = { last: null, failures: 0 };
  for (;;) {
    try {
      if (await readOnce(id, place, { signal, onEvent })) return;
    } catch (error) {
      place.failures += 1;
      const isLasting = error.problem && error.problem.status < 500 && error.problem.status !== 429;
      if (signal?.aborted || isLasting || place.failures > MAX_FAILURES) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

// Returns whether the job is finished.
async function readOnce(id, place, { signal, onEvent }) {
  const headers = place.last === null ? {} : { "Last-Event-ID": place.last };
  const response = await openStream(`v1/jobs/${encodeURIComponent(id)}/events`, { headers, signal });
  if (response.status === 204) return true;
  if (!response.ok) throw await problemFrom(response);
  for await (const event of eventsOf(response.body)) {
    place.failures = 0;
    if (event.id) place.last = event.id;
    if (event.data) onEvent({ type: event.type, data: JSON.parse(event.data) });
  }
  return false;
}

export async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) yield eventOf(block);
  }
}

function eventOf(block) {
  const event = { type: "message", data: "", id: null };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "event") event.type = value;
    else if (name === "id") event.id = value;
    else if (name === "data") event.data += value;
  }
  return event;
}
