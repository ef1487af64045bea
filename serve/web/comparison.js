// The same stored video scored with a second vocabulary or template, beside the answer that is shown.
import { postJson, problemOf } from "./api.js";
import { answer, stored } from "./classification.js";
import { batch, effect, signal, untracked } from "./lib.js";
import { scoreOptions } from "./question.js";

const DEBOUNCE_MS = 200;
export const other = signal({ vocabulary: "", template: "" });
export const otherAnswer = signal(null);
export const otherProblem = signal(null);
const state = { turn: 0, timer: 0 };

export function setOther(values) {
  other.value = { ...other.value, ...values };
}

// Scores again when the first answer or the second question changes.
export function followComparison() {
  effect(() => {
    const isAsked = Boolean(answer.value && stored.value && (other.value.vocabulary || other.value.template.trim()));
    clearTimeout(state.timer);
    state.turn += 1;
    if (isAsked) state.timer = setTimeout(compare, DEBOUNCE_MS);
    else untracked(() => show(null, null));
  });
}

async function compare() {
  const turn = state.turn;
  try {
    const found = await postJson(`v1/videos/${stored.value.video_id}:classify`, otherOptions());
    if (turn === state.turn) show(found, null);
  } catch (error) {
    if (turn === state.turn) show(null, problemOf(error));
  }
}

function otherOptions() {
  const { vocabulary, template } = other.value;
  const { candidate_labels, ...first } = scoreOptions();
  const labels = vocabulary ? { vocabulary } : { ...(candidate_labels ? { candidate_labels } : {}) };
  return { ...first, ...labels, ...(template.trim() ? { hypothesis_template: template.trim() } : {}) };
}

function show(found, problem) {
  batch(() => {
    otherAnswer.value = found;
    otherProblem.value = problem;
  });
}
