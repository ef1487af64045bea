// One classification at a time: starts it, reports its progress, cancels it, and retries when the server is busy.
//
// The features of an uploaded video are stored for half an hour, so that other labels are scored without another upload.
import { postJson, problemOf, ProblemError, sendOff, uploadVideo } from "./api.js";
import { t } from "./i18n.js";
import { batch, signal } from "./lib.js";
import { limits } from "./limits.js";
import { scoreOptions, viewOptions } from "./question.js";
import { chosen, play } from "./video.js";

const DEBOUNCE_MS = 450;
const RESCORE_DEBOUNCE_MS = 120;
const MAX_RETRIES = 5;
const STORED_SECONDS = 1800;
const STORE_FULL = 507;
const GONE = [404, 409]; // expired, or made by another model version
export const answer = signal(null);
export const problem = signal(null);
export const progress = signal(null); // {share} of the upload, or {share: 1} while the server works
export const stored = signal(null); // {video_id, file, views} of the features that the server holds
const state = { turn: 0, abort: null, timer: 0, retries: 0, isStoreFull: false };

export function take(file) {
  if (!file) return;
  stop();
  dropStored();
  batch(() => {
    problem.value = answer.value = null;
    play(file);
  });
  const limit = limits.max_upload_bytes;
  if (limit && file.size > limit) {
    problem.value = { title: t("problem.too-large"), detail: t("problem.too-large.detail", { limit, size: file.size }) };
    return;
  }
  run();
}

export function stop() {
  clearTimeout(state.timer);
  state.abort?.abort();
  state.abort = null;
  state.turn += 1;
  progress.value = null;
}

export function soon() {
  if (!chosen.value) return;
  clearTimeout(state.timer);
  state.timer = setTimeout(run, stored.value ? RESCORE_DEBOUNCE_MS : DEBOUNCE_MS);
}

export async function run() {
  if (!chosen.value) return;
  stop();
  const turn = state.turn;
  state.abort = new AbortController();
  progress.value = { share: 0 };
  try {
    const found = await classify(chosen.value.file, turn, state.abort.signal);
    if (turn !== state.turn) return; // a newer request is running
    state.retries = 0;
    batch(() => {
      problem.value = null;
      answer.value = found;
    });
  } catch (error) {
    if (turn === state.turn && error.name !== "AbortError") fail(error);
  } finally {
    if (turn === state.turn) progress.value = null;
  }
}

export function dropStored() {
  if (stored.value) sendOff(`v1/videos/${stored.value.video_id}`);
  stored.value = null;
}

async function classify(file, turn, signal) {
  const [scores, views] = [scoreOptions(), viewOptions()];
  const held = stored.value;
  if (held?.file === file && JSON.stringify(held.views) === JSON.stringify(views)) {
    progress.value = { share: 1 };
    try {
      return await postJson(`v1/videos/${held.video_id}:classify`, scores, { signal });
    } catch (error) {
      if (!GONE.includes(error.problem?.status)) throw error;
      stored.value = null;
      progress.value = { share: 0 };
    }
  }
  const found = await send(file, { ...scores, ...views }, { turn, signal });
  keep(found.video_id, { file, views, turn });
  return found;
}

// A server whose store is full still classifies.
async function send(file, options, { turn, signal }) {
  const onProgress = (share) => turn === state.turn && (progress.value = { share });
  const upload = (more) => uploadVideo("v1/classify", file, { ...options, ...more }, { signal, onProgress });
  if (state.isStoreFull) return upload({});
  try {
    return await upload({ store: true, expires_in_seconds: STORED_SECONDS });
  } catch (error) {
    if (error.problem?.status !== STORE_FULL) throw error;
    state.isStoreFull = true;
    return upload({});
  }
}

function keep(video_id, { file, views, turn }) {
  if (!video_id) return;
  if (turn !== state.turn) return sendOff(`v1/videos/${video_id}`);
  dropStored();
  stored.value = { video_id, file, views };
}

function fail(error) {
  if (error instanceof ProblemError && error.retryAfter && state.retries < MAX_RETRIES) {
    state.retries += 1;
    problem.value = { ...error.problem, detail: `${error.problem.detail}; ${t("problem.again")}` };
    state.timer = setTimeout(run, error.retryAfter * 1000);
    return;
  }
  batch(() => {
    answer.value = null;
    problem.value = problemOf(error);
  });
}
