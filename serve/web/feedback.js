// A correction of the shown result, if the server stores feedback: uploads the clip with its correct label.
import { problemOf, send, upload } from "./api.js";
import { $, button, element, showProblem } from "./dom.js";
import { limits } from "./limits.js";
import { chosen } from "./video.js";

const shown = { answer: null, file: null };

export function offerCorrection(answer) {
  Object.assign(shown, { answer, file: chosen.file });
  $("correction").hidden = !limits.feedback?.enabled;
  $("right-labels").replaceChildren(...answer.results.map(({ label }) => Object.assign(element("option"), { value: label })));
  tell();
}

export function withdrawOffer() {
  shown.answer = null;
  $("correction").hidden = true;
  $("correction").open = false;
  $("right-label").value = "";
}

export function wireFeedback() {
  $("correct").addEventListener("submit", (event) => {
    event.preventDefault();
    correct($("right-label").value.trim());
  });
}

async function correct(label) {
  const { answer, file } = shown;
  if (!answer || !label) return;
  $("send-correction").disabled = true;
  try {
    const kept = await upload("v1/feedback", formOf(answer, file, label), { onProgress: showProgress });
    if (answer === shown.answer) tell(keptWords(kept), button("Withdraw", () => takeBack(kept)));
  } catch (error) {
    if (answer === shown.answer) fail(error, () => correct(label));
  } finally {
    $("send-correction").disabled = false;
  }
}

function formOf(answer, file, label) {
  const said = { label, vocabulary: answer.vocabulary, predicted: answer.results[0]?.label, request_id: answer.request_id };
  const form = new FormData();
  for (const [name, value] of Object.entries(said)) if (value) form.append(name, value);
  form.append("video", file);
  return form;
}

function showProgress(share) {
  tell(share < 1 ? `sending ${Math.round(share * 100)} %` : "processing");
}

function keptWords(kept) {
  const novelty = kept.is_new_label ? ", which is not a label of the vocabulary" : "";
  return `${kept.is_duplicate ? "Already stored" : "Stored"} as “${kept.label}”${novelty}. Thank you. `;
}

async function takeBack(kept) {
  try {
    await send("DELETE", `v1/feedback/${encodeURIComponent(kept.id)}`);
    tell("Deleted.");
  } catch (error) {
    fail(error, () => takeBack(kept));
  }
}

function fail(error, again) {
  tell();
  showProblem($("correction-problem"), problemOf(error), again);
}

function tell(words = "", ...nodes) {
  showProblem($("correction-problem"), null);
  $("correction-status").replaceChildren(words, ...nodes);
}
