// One classification at a time: starts it, shows its progress, cancels it, and retries when the server is busy.
import { clearAnswer, showAnswer, showError } from "./answer.js";
import { classify, ProblemError } from "./api.js";
import { $ } from "./dom.js";
import { options, showCurl } from "./question.js";
import { chosen } from "./video.js";

const DEBOUNCE_MS = 450;
const MAX_RETRIES = 5;
const state = { turn: 0, abort: null, timer: 0, retries: 0 };

export function stop() {
  clearTimeout(state.timer);
  state.abort?.abort();
  state.abort = null;
  state.turn += 1;
  $("progress").hidden = true;
}

export function soon() {
  showCurl();
  if (!chosen.file) return;
  clearTimeout(state.timer);
  state.timer = setTimeout(run, DEBOUNCE_MS);
}

export async function run() {
  stop();
  const turn = state.turn;
  state.abort = new AbortController();
  $("progress").hidden = false;
  $("bar").value = 0;
  $("stage").textContent = "uploading";
  try {
    const onProgress = (share) => turn === state.turn && showProgress(share);
    const answer = await classify(chosen.file, options(), { signal: state.abort.signal, onProgress });
    if (turn !== state.turn) return; // a newer request is running
    state.retries = 0;
    showError(null);
    showAnswer(answer);
  } catch (error) {
    if (turn === state.turn && error.name !== "AbortError") failed(error);
  } finally {
    if (turn === state.turn) $("progress").hidden = true;
  }
}

function showProgress(share) {
  if (share < 1) $("bar").value = share;
  else $("bar").removeAttribute("value");
  $("stage").textContent = share < 1 ? `uploading ${Math.round(share * 100)} %` : "classifying";
}

function failed(error) {
  if (error instanceof ProblemError && error.retryAfter && state.retries < MAX_RETRIES) {
    state.retries += 1;
    showError({ title: error.problem.title, detail: `${error.problem.detail}; trying again` });
    state.timer = setTimeout(run, error.retryAfter * 1000);
    return;
  }
  clearAnswer();
  showError(error.problem ?? { title: "The server is not responding", detail: String(error.message ?? error) });
}

export function wireCancel() {
  $("cancel").addEventListener("click", () => {
    stop();
    $("stage").textContent = "";
  });
}
