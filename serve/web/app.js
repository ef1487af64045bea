// The page: joins video, question, answer; finds out what the server can do.
import { clearAnswer, showError } from "/web/answer.js";
import { getJson } from "/web/api.js";
import { run, soon, stop, wireCancel } from "/web/classification.js";
import { $, element } from "/web/dom.js";
import { showCurl, wireCurl } from "/web/question.js";
import { play, wirePlayer } from "/web/video.js";

const server = { limits: null };

function take(file) {
  if (!file) return;
  stop();
  showError(null);
  clearAnswer();
  play(file);
  showCurl();
  const limit = server.limits?.max_upload_bytes;
  if (limit && file.size > limit) {
    showError({ title: "Upload too large", detail: `This file has ${file.size} bytes, the server takes ${limit}.` });
    return;
  }
  run();
}

async function connect() {
  try {
    const [limits, { models }] = await Promise.all([getJson("/v1/limits"), getJson("/v1/models")]);
    server.limits = limits;
    const { vocabularies } = await getJson("/v1/vocabularies");
    $("vocabulary").replaceChildren(...vocabularies.map(choiceOf));
    const active = models.find((model) => model.loaded);
    $("model").textContent = active ? `${active.name}@${active.version} on ${active.engine}` : "no model is loaded";
    $("notice").textContent = (active?.contract?.card ?? "").split("\n\n")[0];
    $("notice").hidden = !$("notice").textContent;
    $("limit").textContent = ` (up to ${Math.round(limits.max_upload_bytes / 2 ** 20)} MiB)`;
  } catch {
    $("model").textContent = "the server is starting …";
    setTimeout(connect, 1000);
  }
}

function choiceOf(item) {
  const choice = element("option", "", `${item.name} (${item.num_labels} labels)`);
  choice.value = item.name;
  choice.selected = item.is_default;
  return choice;
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
    event.preventDefault();
    $("drop").classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
}

$("file").addEventListener("change", (event) => take(event.target.files[0]));
$("another").addEventListener("click", () => {
  $("file").value = "";
  $("file").click();
});
for (const id of ["labels", "template", "top_k", "num_clips"]) $(id).addEventListener("input", soon);
for (const id of ["vocabulary", "num_crops", "function_to_apply"]) $(id).addEventListener("change", soon);
$("vocabulary").addEventListener("change", () => { $("labels").value = ""; });
wirePlayer();
wireCurl();
wireCancel();
wireDrops();
connect();
