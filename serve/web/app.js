// The page: connects video, options and result, and reads the models and limits of the server.
import { clearAnswer, showError } from "./answer.js";
import { getJson } from "./api.js";
import { run, soon, stop, wireCancel } from "./classification.js";
import { $ } from "./dom.js";
import { openEditor, openNew, wireEditor } from "./editor.js";
import { wireFeedback } from "./feedback.js";
import { limits, readLimits } from "./limits.js";
import { hasOwnLabels, showCurl, wireCurl } from "./question.js";
import { showSuggestions } from "./suggestions.js";
import { chosen, play, wirePlayer } from "./video.js";
import { factsOf, start, subscribe } from "./vocabularies.js";

const asked = { name: null, current: null }; // the vocabulary of the answer that is shown

function take(file) {
  if (!file) return;
  stop();
  showError(null);
  clearAnswer();
  play(file);
  showCurl();
  const limit = limits.max_upload_bytes;
  if (limit && file.size > limit) {
    showError({ title: "Upload too large", detail: `The limit is ${limit} bytes; this file has ${file.size}.` });
    return;
  }
  run();
}

async function connect() {
  try {
    const [{ models }] = await Promise.all([getJson("v1/models"), readLimits()]);
    await start();
    const active = models.find((model) => model.loaded);
    $("model").textContent = active ? `${active.name}@${active.version} on ${active.engine}` : "no model is loaded";
    $("notice").textContent = active?.notice ?? "";
    $("notice").hidden = !$("notice").textContent;
    showSuggestions().catch(() => {}); // the page works without them
    $("limit").textContent = ` (up to ${Math.round(limits.max_upload_bytes / 2 ** 20)} MiB)`;
  } catch {
    $("model").textContent = "the server is starting …";
    setTimeout(connect, 1000);
  }
}

// Classifies the video again when a new version of the chosen vocabulary is in use.
function hearOfVocabularies() {
  const { name, current } = asked;
  noteAsked();
  if (asked.name === name && asked.current !== current && chosen.file && !hasOwnLabels()) run();
}

function noteAsked() {
  asked.name = $("vocabulary").value;
  asked.current = factsOf(asked.name)?.current ?? null;
}

function showOwn() {
  $("own-hint").hidden = !hasOwnLabels();
}

function clearOwn() {
  $("labels").value = "";
  showOwn();
}

function wireDrops() {
  for (const kind of ["dragover", "dragenter"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.add("over");
    });
  }
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    const isTaken = event.defaultPrevented; // by another drop target of the page
    event.preventDefault();
    $("drop").classList.remove("over");
    if (!isTaken) take(event.dataTransfer.files[0]);
  });
}

$("file").addEventListener("change", (event) => take(event.target.files[0]));
$("another").addEventListener("click", () => {
  $("file").value = "";
  $("file").click();
});
for (const id of ["labels", "template", "top_k", "num_clips"]) $(id).addEventListener("input", soon);
for (const id of ["vocabulary", "num_crops", "function_to_apply"]) $(id).addEventListener("change", soon);
$("vocabulary").addEventListener("change", clearOwn);
$("vocabulary").addEventListener("change", noteAsked);
$("labels").addEventListener("input", showOwn);
$("edit-vocabulary").addEventListener("click", () => openEditor($("vocabulary").value));
$("make-vocabulary").addEventListener("click", () => openNew($("labels").value));
subscribe(hearOfVocabularies);
wireEditor({ created: clearOwn });
wirePlayer();
wireCurl();
wireCancel();
wireFeedback();
wireDrops();
connect();
