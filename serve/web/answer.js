// Shows the result of a classification (labels as bars, "none of these", timing) or a problem.
import { $, element } from "./dom.js";
import { offerCorrection, withdrawOffer } from "./feedback.js";
import { clearSampling, showSampling } from "./video.js";

export function clearAnswer() {
  $("results").replaceChildren();
  clearSampling();
  withdrawOffer();
  for (const id of ["none", "acceptance", "example-facts", "answer-warnings"]) $(id).hidden = true;
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
  tell($("acceptance"), answer.acceptance && acceptanceWords(answer.acceptance));
  tell($("example-facts"), answer.examples && exampleWords(answer.examples));
  tell($("answer-warnings"), answer.vocabulary_warnings.map((warning) => `${warning.detail}.`).join(" "));
  showSampling(answer.sampling);
  offerCorrection(answer);
  const { total, ...stages } = answer.timing_ms;
  const parts = Object.entries(stages).map(([stage, value]) => `${stage} ${value.toFixed(1)}`).join(", ");
  const { name, version, engine } = answer.model;
  const asked = answer.vocabulary ?? "labels of this request";
  $("timing").textContent = `${name}@${version} on ${engine}, ${asked}: ${total.toFixed(0)} ms (${parts})`;
}

function showNone(none) {
  $("none").hidden = none.score === null && !none.rejected;
  const score = none.score === null ? "" : ` (${percent(none.score)})`;
  $("none").textContent = none.rejected ? `None of these${score}: no label is accepted.` : `None of these${score}`;
  $("none").classList.toggle("rejected", none.rejected);
}

function tell(place, words) {
  place.hidden = !words;
  place.textContent = words ?? "";
}

// Describes whether thresholds were applied, and their error rate.
function acceptanceWords(acceptance) {
  const { applied, obstacle, criterion, threshold, false_accept_rate: rate, false_accept_interval: range } = acceptance;
  const what = rate === null ? "Thresholds set by hand were" : "A calibration was";
  if (!applied) return `${what} not applied: ${obstacle}.`;
  const common = threshold === null ? "" : `accepted from ${criterion} ${threshold.toFixed(3)}`;
  const from = common || "each label has a separate threshold";
  if (rate === null) return `${what} applied: ${from}.`;
  const [low, high] = range ?? [];
  const within = range ? ` (95 % interval ${percent(low)} to ${percent(high)})` : "";
  const promise = `about ${percent(rate)} of clips that show none of the labels are accepted${within}`;
  const caveats = acceptance.caveats.length ? `. This rate may be wrong: ${acceptance.caveats.join("; ")}` : "";
  return `${what} applied: ${from}; ${promise}${caveats}.`;
}

function exampleWords(examples) {
  const { num_examples: number, weight, accuracy, accuracy_by_text: byText } = examples;
  const clips = `${number} example clip${number === 1 ? "" : "s"}`;
  const gain = "labels whose clips resemble the video get a higher score";
  const use = weight ? `${gain} (up to ${weight.toFixed(0)} logits)` : "not used, because they do not improve the result";
  const found = accuracy === null ? "" : `${percent(accuracy)} are correct, ${percent(byText)} by text alone`;
  const measured = found && `; in cross-validation ${found}`;
  return `${clips}: ${use}${measured}.`;
}

function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}

function resultRow(result, all) {
  const row = element("li", "result");
  const logits = all.map((other) => other.logit);
  const span = Math.max(...logits) - Math.min(...logits) || 1;
  const share = result.score ?? (result.logit - Math.min(...logits)) / span;
  const fill = element("div", "fill");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  const shown = result.score === null ? result.logit.toFixed(2) : percent(result.score);
  const head = element("div", "row");
  head.append(element("span", "name", result.label), element("span", "score", shown));
  const score = result.score === null ? "no score" : `score ${result.score.toFixed(4)}`;
  const numbers = `${score} · logit ${result.logit.toFixed(3)} · cosine ${result.cosine.toFixed(4)}`;
  row.append(fill, head, element("div", "numbers", numbers));
  return row;
}
