// The search that is shown, and the storing of videos that it searches.
import { getJson, postJson, problemOf, uploadVideo } from "./api.js";
import { attach, readVideos } from "./library.js";
import { batch, signal } from "./lib.js";
import { requestTimeline } from "./timeline_request.js";

const DAY_SECONDS = 86_400;
export const answer = signal(null);
export const problem = signal(null);
export const progress = signal(null);
export const storing = signal(null); // {name, index, count, share, done}
export const storeProblem = signal(null);
const state = { turn: 0, abort: null, storeAbort: null };

export function stopSearch() {
  state.abort?.abort();
  state.turn += 1;
  progress.value = null;
}

// `query`: {text}, {video_id, start_seconds, end_seconds} or {file}, with `options` {top_k, tag}.
export async function search(query, options) {
  stopSearch();
  const turn = state.turn;
  state.abort = new AbortController();
  progress.value = { share: query.file ? 0 : 1 };
  try {
    const found = await request(query, options, { turn, signal: state.abort.signal });
    if (turn !== state.turn) return;
    batch(() => {
      problem.value = null;
      answer.value = found;
    });
  } catch (error) {
    if (turn === state.turn && error.name !== "AbortError") problem.value = problemOf(error);
  } finally {
    if (turn === state.turn) progress.value = null;
  }
}

export function searchRequest(query, options) {
  if (query.file) return { path: "v1/search", file: query.file, options };
  if (query.video_id) return { path: "v1/search", json: { ...exampleOf(query), ...options } };
  return { method: "GET", path: `v1/search?${new URLSearchParams({ q: query.text, ...options })}` };
}

function request(query, options, { turn, signal }) {
  const { path, json } = searchRequest(query, options);
  const onProgress = (share) => turn === state.turn && (progress.value = { share });
  if (query.file) return uploadVideo(path, query.file, options, { signal, onProgress });
  return json ? postJson(path, json, { signal }) : getJson(path);
}

function exampleOf({ video_id, start_seconds, end_seconds }) {
  const range = Object.entries({ start_seconds, end_seconds }).filter(([, text]) => String(text ?? "").trim());
  return { video_id, ...Object.fromEntries(range.map(([name, text]) => [name, Number(text)])) };
}

export function stopStoring() {
  state.storeAbort?.abort();
}

// Stores videos one after the other; one that cannot be stored does not stop the others.
export async function storeVideos(files, { tags, days }) {
  state.storeAbort = new AbortController();
  const { signal } = state.storeAbort;
  storeProblem.value = null;
  const lifetime = days ? { expires_in_seconds: Math.round(days * DAY_SECONDS) } : {};
  const options = { store: true, ...(tags.length ? { tags } : {}), ...lifetime };
  for (const [index, file] of files.entries()) {
    const onProgress = (value) => (storing.value = { name: file.name, index: index + 1, count: files.length, ...value });
    onProgress({ share: 0 });
    try {
      const found = await requestTimeline(file, options, { signal, onProgress });
      attach(found.video_id, file);
    } catch (error) {
      if (signal.aborted) break;
      storeProblem.value = { ...problemOf(error), title: `${file.name}: ${problemOf(error).title}` };
    }
  }
  storing.value = null;
  await readVideos().catch((error) => (storeProblem.value = problemOf(error)));
}
