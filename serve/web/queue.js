// Several files, classified one after the other with the labels and options of the page.
import { problemOf, uploadVideo } from "./api.js";
import { signal } from "./lib.js";
import { scoreOptions, viewOptions } from "./question.js";
import { saveText, toCsv } from "./save.js";

const MAX_RETRIES = 5;
export const queue = signal([]); // [{file, status, share, answer, problem}]
export const isRunning = signal(false);
const state = { abort: null };

export function startQueue(files) {
  stopQueue();
  queue.value = files.map((file) => ({ file, status: "waiting" }));
  return runQueue();
}

// Classifies the files that have no answer, or all of them `again`.
export async function runQueue({ again = false } = {}) {
  if (again) queue.value = queue.value.map(({ file }) => ({ file, status: "waiting" }));
  const abort = new AbortController();
  state.abort = abort;
  isRunning.value = true;
  for (let at = 0; at < queue.value.length && !abort.signal.aborted; at += 1) {
    if (queue.value[at].status === "waiting") await classify(at, abort.signal);
  }
  if (state.abort === abort) isRunning.value = false;
}

export function stopQueue() {
  state.abort?.abort();
  isRunning.value = false;
  queue.value = queue.value.map((item) => (item.answer || item.problem ? item : { ...item, status: "cancelled" }));
}

export function closeQueue() {
  stopQueue();
  queue.value = [];
}

async function classify(at, signal) {
  const set = (values) => {
    if (!signal.aborted) queue.value = queue.value.map((item, index) => (index === at ? { ...item, ...values } : item));
  };
  set({ status: "running", share: 0 });
  try {
    const options = { ...scoreOptions(), ...viewOptions() };
    const answer = await patiently(() => uploadVideo("v1/classify", queue.value[at].file, options, { signal, onProgress: (share) => set({ share }) }), signal);
    set({ status: "done", answer });
  } catch (error) {
    set({ status: "failed", problem: problemOf(error) });
  }
}

// Tries again when the server is busy and says when to.
async function patiently(request, signal) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await request();
    } catch (error) {
      if (!error.retryAfter || attempt >= MAX_RETRIES || signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfter * 1000));
    }
  }
}

export function saveQueueAsCsv() {
  const header = ["file", "rank", "label", "score", "logit", "cosine", "accepted", "problem"];
  const rows = queue.value.flatMap(({ file, answer, problem }) => {
    if (!answer) return [[file.name, "", "", "", "", "", "", problem ? `${problem.title}: ${problem.detail ?? ""}` : ""]];
    return answer.results.map(({ label, score, logit, cosine, accepted }, index) => [file.name, index + 1, label, score, logit, cosine, accepted, ""]);
  });
  saveText(toCsv([header, ...rows]), "results.csv", "text/csv");
}

export function saveQueueAsJson() {
  const lines = queue.value.map(({ file, answer, problem }) => ({ input: file.name, ...(answer ? { result: answer } : { problem: problem ?? null }) }));
  saveText(JSON.stringify(lines, null, 1), "results.json", "application/json");
}
