// The page: a video, its labels, its answer. State lives in `state`; every text from outside goes in as text, never as HTML.
import { classify, getJson, ProblemError } from "/web/api.js";

const DEBOUNCE_MS = 450;
const $ = (id) => document.getElementById(id);
const state = { file: null, url: null, limits: null, models: null, turn: 0, abort: null, timer: 0, retries: 0 };

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function options() {
  const labels = $("labels").value.split(/\n/).map((line) => line.trim()).filter(Boolean);
  const chosen = { top_k: Number($("top_k").value) || 5, num_clips: Number($("num_clips").value) || 1, num_crops: Number($("num_crops").value) };
  if (labels.length) chosen.candidate_labels = labels;
  else if ($("vocabulary").value) chosen.vocabulary = $("vocabulary").value;
  if ($("template").value.trim()) chosen.hypothesis_template = $("template").value.trim();
  if ($("function_to_apply").value) chosen.function_to_apply = $("function_to_apply").value;
  return chosen;
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function showCurl() {
  const name = state.file ? state.file.name : "clip.mp4";
  $("curl").textContent = `curl -F ${quoted(`video=@"${name}"`)} \\\n  --form-string ${quoted(`options=${JSON.stringify(options())}`)} \\\n  ${location.origin}/v1/classify`;
  $("request").hidden = !state.file;
}

function take(file) {
  if (!file) return;
  stop();
  showError(null);
  clearAnswer();
  if (state.url) URL.revokeObjectURL(state.url);
  state.file = file;
  state.url = URL.createObjectURL(file);
  $("drop").hidden = true;
  $("player").hidden = false;
  $("unplayable").hidden = true;
  $("video").hidden = false;
  $("video").src = state.url;
  $("facts").textContent = `${file.name}, ${(file.size / 1e6).toFixed(2)} MB`;
  showCurl();
  const limit = state.limits?.max_upload_bytes;
  if (limit && file.size > limit) {
    showError({ title: "Upload too large", detail: `This file has ${file.size} bytes, the server takes ${limit}.` });
    return;
  }
  run();
}

function stop() {
  clearTimeout(state.timer);
  state.abort?.abort();
  state.abort = null;
  state.turn += 1;
  $("progress").hidden = true;
}

function soon() {
  showCurl();
  if (!state.file) return;
  clearTimeout(state.timer);
  state.timer = setTimeout(run, DEBOUNCE_MS);
}

async function run() {
  stop();
  const turn = state.turn;
  state.abort = new AbortController();
  $("progress").hidden = false;
  $("bar").value = 0;
  $("stage").textContent = "uploading";
  try {
    const answer = await classify(state.file, options(), {
      signal: state.abort.signal,
      onProgress: (share) => {
        if (turn !== state.turn) return;
        if (share < 1) $("bar").value = share;
        else $("bar").removeAttribute("value");
        $("stage").textContent = share < 1 ? `uploading ${Math.round(share * 100)} %` : "looking at it";
      },
    });
    if (turn !== state.turn) return; // a newer request is under way
    state.retries = 0;
    showError(null);
    showAnswer(answer);
  } catch (error) {
    if (turn !== state.turn || error.name === "AbortError") return;
    if (error instanceof ProblemError && error.retryAfter && state.retries < 5) {
      state.retries += 1;
      showError({ title: error.problem.title, detail: `${error.problem.detail}; trying again` });
      state.timer = setTimeout(run, error.retryAfter * 1000);
      return;
    }
    clearAnswer();
    showError(error.problem ?? { title: "The server does not answer", detail: String(error.message ?? error) });
  } finally {
    if (turn === state.turn) $("progress").hidden = true;
  }
}

function clearAnswer() {
  $("results").replaceChildren();
  $("axis").replaceChildren();
  $("none").hidden = true;
  $("timing").textContent = "";
  $("empty").hidden = false;
}

function showError(problem) {
  $("error").hidden = !problem;
  $("error").replaceChildren();
  if (!problem) return;
  $("error").append(element("strong", "", problem.title ?? "Error"), element("span", "", problem.detail ?? ""));
}

function showAnswer(answer) {
  $("empty").hidden = true;
  $("results").replaceChildren(...answer.results.map((result) => resultRow(result, answer.results)));
  showNone(answer.none_of_these);
  showAxis(answer.sampling);
  const sampling = answer.sampling;
  $("facts").textContent = `${state.file.name}: ${sampling.num_frames} frames, ${sampling.width} × ${sampling.height}, ${sampling.fps.toFixed(2)} per second, ${sampling.duration_seconds.toFixed(2)} s`;
  const { total, ...stages } = answer.timing_ms;
  const told = Object.entries(stages).map(([stage, value]) => `${stage} ${value.toFixed(1)}`).join(", ");
  $("timing").textContent = `${answer.model.name}@${answer.model.version} on ${answer.model.engine}, ${answer.vocabulary ?? "labels of this request"}: ${total.toFixed(0)} ms (${told})`;
}

function showNone(none) {
  $("none").hidden = none.score === null && !none.rejected;
  const score = none.score === null ? "" : ` (${(none.score * 100).toFixed(1)} %)`;
  $("none").textContent = none.rejected ? `None of these${score}: no label is accepted.` : `None of these${score}`;
  $("none").classList.toggle("rejected", none.rejected);
}

function resultRow(result, all) {
  const row = element("li", "result");
  const logits = all.map((other) => other.logit);
  const span = Math.max(...logits) - Math.min(...logits) || 1;
  const share = result.score ?? (result.logit - Math.min(...logits)) / span;
  const fill = element("div", "fill");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  const head = element("div", "row");
  head.append(element("span", "name", result.label), element("span", "score", result.score === null ? result.logit.toFixed(2) : `${(result.score * 100).toFixed(1)} %`));
  const score = result.score === null ? "no score" : `score ${result.score.toFixed(4)}`;
  row.append(fill, head, element("div", "numbers", `${score} · logit ${result.logit.toFixed(3)} · cosine ${result.cosine.toFixed(4)}`));
  return row;
}

function showAxis(sampling) {
  const duration = Math.max(sampling.duration_seconds, 1e-3);
  const marks = sampling.pts_seconds.flatMap((clip, c) => clip.map((pts, i) => ({ pts, frame: sampling.frame_indices[c][i] })));
  $("axis").replaceChildren(
    ...marks.map(({ pts, frame }) => {
      const mark = element("button");
      mark.type = "button";
      mark.style.left = `${Math.min(1, pts / duration) * 100}%`;
      mark.title = `frame ${frame} at ${pts.toFixed(2)} s`;
      mark.setAttribute("aria-label", mark.title);
      mark.dataset.pts = String(pts);
      mark.addEventListener("click", () => { $("video").pause(); $("video").currentTime = pts; });
      return mark;
    }),
  );
}

async function connect() {
  try {
    [state.limits, state.models] = await Promise.all([getJson("/v1/limits"), getJson("/v1/models")]);
    const { vocabularies } = await getJson("/v1/vocabularies");
    $("vocabulary").replaceChildren(
      ...vocabularies.map((item) => {
        const choice = element("option", "", `${item.name} (${item.num_labels} labels)`);
        choice.value = item.name;
        choice.selected = item.is_default;
        return choice;
      }),
    );
    const active = state.models.models.find((model) => model.loaded);
    $("model").textContent = active ? `${active.name}@${active.version} on ${active.engine}` : "no model is loaded";
    $("notice").textContent = (active?.contract?.card ?? "").split("\n\n")[0];
    $("notice").hidden = !$("notice").textContent;
    $("limit").textContent = ` (up to ${Math.round(state.limits.max_upload_bytes / 2 ** 20)} MiB)`;
  } catch {
    $("model").textContent = "the server is starting …";
    setTimeout(connect, 1000);
  }
}

$("file").addEventListener("change", (event) => take(event.target.files[0]));
$("another").addEventListener("click", () => { $("file").value = ""; $("file").click(); });
$("cancel").addEventListener("click", () => { stop(); $("stage").textContent = ""; });
$("video").addEventListener("error", () => { $("unplayable").hidden = false; $("video").hidden = true; });
$("copy").addEventListener("click", async () => { await navigator.clipboard.writeText($("curl").textContent); $("copy").textContent = "Copied"; });
for (const id of ["labels", "template", "top_k", "num_clips"]) $(id).addEventListener("input", soon);
for (const id of ["vocabulary", "num_crops", "function_to_apply"]) $(id).addEventListener("change", soon);
$("vocabulary").addEventListener("change", () => { $("labels").value = ""; });
for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); $("drop").classList.remove("over"); take(event.dataTransfer.files[0]); });
connect();
