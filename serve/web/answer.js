// The answer: labels as bars, "none of these", how long it took; or the problem.
import { $, element } from "/web/dom.js";
import { clearSampling, showSampling } from "/web/video.js";

export function clearAnswer() {
  $("results").replaceChildren();
  clearSampling();
  $("none").hidden = true;
  $("timing").textContent = "";
  $("empty").hidden = false;
}

export function showError(problem) {
  $("error").hidden = !problem;
  $("error").replaceChildren();
  if (!problem) return;
  $("error").append(element("strong", "", problem.title ?? "Error"), element("span", "", problem.detail ?? ""));
}

export function showAnswer(answer) {
  $("empty").hidden = true;
  $("results").replaceChildren(...answer.results.map((result) => resultRow(result, answer.results)));
  showNone(answer.none_of_these);
  showSampling(answer.sampling);
  const { total, ...stages } = answer.timing_ms;
  const told = Object.entries(stages).map(([stage, value]) => `${stage} ${value.toFixed(1)}`).join(", ");
  const { name, version, engine } = answer.model;
  const asked = answer.vocabulary ?? "labels of this request";
  $("timing").textContent = `${name}@${version} on ${engine}, ${asked}: ${total.toFixed(0)} ms (${told})`;
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
  const percent = result.score === null ? result.logit.toFixed(2) : `${(result.score * 100).toFixed(1)} %`;
  const head = element("div", "row");
  head.append(element("span", "name", result.label), element("span", "score", percent));
  const score = result.score === null ? "no score" : `score ${result.score.toFixed(4)}`;
  const numbers = `${score} · logit ${result.logit.toFixed(3)} · cosine ${result.cosine.toFixed(4)}`;
  row.append(fill, head, element("div", "numbers", numbers));
  return row;
}
