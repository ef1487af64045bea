// The timeline that is shown: of the chosen video, or of a stored one.
import { postJson, problemOf, sendOff } from "./api.js";
import { t } from "./i18n.js";
import { attach, files } from "./library.js";
import { batch, signal } from "./lib.js";
import { limits } from "./limits.js";
import { labelOptions } from "./question.js";
import { requestTimeline } from "./timeline_request.js";
import { chosen, play } from "./video.js";

const DEBOUNCE_MS = 300;
const STORED_SECONDS = 1800;
const STORE_FULL = 507;
const GONE = [404, 409];
const TOP_K = 20; // labels of each window, for the curves
const NUMBERS = ["window_seconds", "stride_seconds"];
const RULES = ["threshold_on", "threshold_off", "min_segment_seconds", "gap_seconds"];
export const answer = signal(null);
export const problem = signal(null);
export const progress = signal(null); // {share, done}
export const source = signal(null); // video_id of a stored video; null for the chosen file
export const typed = signal({}); // options as typed
const state = { turn: 0, abort: null, timer: 0, held: null, isStoreFull: false }; // held: {video_id, file, windows}

export function setTyped(name, value) {
  typed.value = { ...typed.value, [name]: value };
}

export function takeFile(file) {
  stop();
  dropHeld();
  batch(() => {
    source.value = answer.value = problem.value = null;
    play(file);
  });
  if (limits.max_upload_bytes && file.size > limits.max_upload_bytes) {
    const detail = t("problem.too-large.detail", { limit: limits.max_upload_bytes, size: file.size });
    problem.value = { title: t("problem.too-large"), detail };
    return;
  }
  run();
}

export function takeStored(video_id) {
  stop();
  batch(() => {
    source.value = video_id || null;
    answer.value = problem.value = null;
    const file = files.value.get(video_id);
    if (file) play(file);
  });
  run();
}

export function stop() {
  clearTimeout(state.timer);
  state.abort?.abort();
  state.abort = null;
  state.turn += 1;
  progress.value = null;
}

// Scores the stored features again after a change of labels or thresholds.
export function soon() {
  if (!answer.value && !problem.value) return;
  clearTimeout(state.timer);
  state.timer = setTimeout(run, DEBOUNCE_MS);
}

export async function run() {
  if (!source.value && !chosen.value) return;
  stop();
  const turn = state.turn;
  state.abort = new AbortController();
  progress.value = { share: 0 };
  try {
    const found = await request(turn, state.abort.signal);
    if (turn === state.turn) {
      batch(() => {
        problem.value = null;
        answer.value = found;
      });
    }
  } catch (error) {
    if (turn === state.turn && error.name !== "AbortError") problem.value = problemOf(error);
  } finally {
    if (turn === state.turn) progress.value = null;
  }
}

// The options of the request as the page would send it; throws if the labels cannot be parsed.
export function segmentOptions() {
  return { view: "both", top_k: TOP_K, ...labelOptions(), ...numbers(RULES) };
}

export function windowOptions() {
  return numbers(NUMBERS);
}

export function dropHeld() {
  if (state.held) sendOff(`v1/videos/${state.held.video_id}`);
  state.held = null;
}

function numbers(names) {
  const given = names.filter((name) => String(typed.value[name] ?? "").trim());
  return Object.fromEntries(given.map((name) => [name, Number(typed.value[name])]));
}

async function request(turn, signal) {
  const [segments, windows] = [segmentOptions(), windowOptions()];
  const file = chosen.value?.file;
  const { held } = state;
  const isHeld = held && held.file === file && JSON.stringify(held.windows) === JSON.stringify(windows);
  const video_id = source.value ?? (isHeld ? held.video_id : null);
  if (video_id) {
    progress.value = { share: 1 };
    try {
      return await postJson(`v1/videos/${encodeURIComponent(video_id)}:timeline`, segments, { signal });
    } catch (error) {
      if (source.value || !GONE.includes(error.problem?.status)) throw error;
      state.held = null;
    }
  }
  const found = await send(file, { ...segments, ...windows }, { turn, signal });
  if (found.video_id && turn === state.turn) {
    dropHeld();
    state.held = { video_id: found.video_id, file, windows };
    attach(found.video_id, file);
  }
  return found;
}

async function send(file, options, { turn, signal }) {
  const onProgress = (value) => turn === state.turn && (progress.value = value);
  const upload = (more) => requestTimeline(file, { ...options, ...more }, { signal, onProgress });
  if (state.isStoreFull) return upload({});
  try {
    return await upload({ store: true, expires_in_seconds: STORED_SECONDS });
  } catch (error) {
    if (error.problem?.status !== STORE_FULL) throw error;
    state.isStoreFull = true;
    return upload({});
  }
}
