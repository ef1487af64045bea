// The labels of an answer as bars, "none of these", and what thresholds and examples did.
import { percent, t } from "../i18n.js";
import { html } from "../lib.js";

export function Results({ answer, id }) {
  const { results } = answer;
  const logits = results.map((result) => result.logit);
  const [low, high] = [Math.min(...logits), Math.max(...logits)];
  return html`<ol id=${id} class="results" aria-live="polite">
    ${results.map((result) => html`<${Bar} key=${result.label} result=${result} low=${low} high=${high} />`)}
  </ol>`;
}

function Bar({ result, low, high }) {
  const share = result.score ?? (result.logit - low) / (high - low || 1);
  const score = result.score === null ? t("result.no-score") : t("result.score", { score: result.score.toFixed(4) });
  const numbers = t("result.numbers", { score, logit: result.logit.toFixed(3), cosine: result.cosine.toFixed(4) });
  return html`<li class="result">
    <div class="fill" style=${{ width: `${Math.max(0, Math.min(1, share)) * 100}%` }}></div>
    <div class="row">
      <span class="name" dir="auto">${result.label}</span>
      <span class="score">${result.score === null ? result.logit.toFixed(2) : percent(result.score)}</span>
    </div>
    <div class="numbers">${numbers}</div>
  </li>`;
}

export function NoneOfThese({ none }) {
  if (none.score === null && !none.rejected) return null;
  const score = none.score === null ? "" : ` (${percent(none.score)})`;
  const text = none.rejected ? t("none.rejected", { score }) : t("none", { score });
  return html`<p id="none" class=${none.rejected ? "hint rejected" : "hint"}>${text}</p>`;
}

// Whether thresholds were applied, and their error rate.
export function Acceptance({ acceptance }) {
  return acceptance && html`<p id="acceptance" class="hint" dir="auto">${acceptanceText(acceptance)}</p>`;
}

function acceptanceText(acceptance) {
  const { applied, obstacle, criterion, threshold, false_accept_rate: rate, false_accept_interval: range } = acceptance;
  const what = t(rate === null ? "acceptance.by-hand" : "acceptance.calibration");
  if (!applied) return t("acceptance.not-applied", { what, obstacle });
  const from =
    threshold === null ? t("acceptance.each") : t("acceptance.from", { criterion, threshold: threshold.toFixed(3) });
  if (rate === null) return t("acceptance.applied", { what, from });
  const [low, high] = range ?? [];
  const within = range ? t("acceptance.interval", { low: percent(low), high: percent(high) }) : "";
  const caveats = acceptance.caveats.length ? t("acceptance.caveats", { caveats: acceptance.caveats.join("; ") }) : "";
  return t("acceptance.rate", { what, from, rate: percent(rate), within, caveats });
}

export function Examples({ examples }) {
  return examples && html`<p id="example-facts" class="hint">${exampleText(examples)}</p>`;
}

function exampleText({ num_examples: count, weight, accuracy, accuracy_by_text: byText }) {
  const use = weight ? t("examples.used", { weight: weight.toFixed(0) }) : t("examples.unused");
  const measured = accuracy === null ? "" : t("examples.measured", { accuracy: percent(accuracy), byText: percent(byText) });
  return t("examples", { count, use, measured });
}

export function Warnings({ warnings }) {
  if (!warnings.length) return null;
  return html`<p id="answer-warnings" class="error" role="status" dir="auto">${warnings.map(({ detail }) => `${detail}.`).join(" ")}</p>`;
}
