// Classify: a video, its labels, its answer; a queue of files; a second vocabulary beside the first.
import { answer, problem, progress, run, soon, stop, take } from "../classification.js";
import { number, t } from "../i18n.js";
import { computed, effect, html, untracked } from "../lib.js";
import { Comparison } from "../parts/comparison.js";
import { Correction } from "../parts/correction.js";
import { Labels } from "../parts/labels.js";
import { FrameAxis, Player, samplingText } from "../parts/player.js";
import { Problem } from "../parts/problem.js";
import { Progress } from "../parts/progress.js";
import { Queue } from "../parts/queue.js";
import { RequestCode } from "../parts/request_code.js";
import { Acceptance, Examples, NoneOfThese, Results, Warnings } from "../parts/results.js";
import { startQueue } from "../queue.js";
import { hasOwnLabels, ownLabels, scoreOptions, settings, viewOptions } from "../question.js";
import { chosen } from "../video.js";
import { chosenName, factsOf, subscribe } from "../vocabularies.js";

const asked = { name: null, current: null }; // the vocabulary of the answer that is shown

export function Classify({ isBeside }) {
  const sampling = answer.value?.sampling;
  const facts = sampling && samplingText(sampling, chosen.value.file.name);
  return html`<div class=${isBeside ? "ask beside-editor" : "ask"}>
    <${Player} takeFiles=${takeFiles} facts=${facts}><${FrameAxis} sampling=${sampling} /><//>
    <${Answer} />
    <${Labels} hasViews=${true} />
    ${isBeside ? null : html`<${Queue} /><${Comparison} />`}
  </div>`;
}

export function takeFiles(files) {
  if (files.length > 1) startQueue(files);
  else if (files.length) take(files[0]);
}

function Answer() {
  const found = answer.value;
  return html`<section class="answer-panel" aria-labelledby="answer-heading" aria-busy=${Boolean(progress.value)}>
    <h2 id="answer-heading">${t("result")}</h2>
    ${progress.value && html`<${Progress} id="progress" share=${progress.value.share} cancel=${stop} />`}
    <${Problem} id="error" problem=${problem.value} again=${run} />
    ${found ? html`<${Found} found=${found} />` : html`<p id="empty" class="hint">${t("result.empty")}</p>`}
    <${Correction} />
    <${RequestCode} request=${request.value} />
  </section>`;
}

function Found({ found }) {
  return html`
    <${Results} id="results" answer=${found} />
    <${NoneOfThese} none=${found.none_of_these} />
    <${Acceptance} acceptance=${found.acceptance} />
    <${Examples} examples=${found.examples} />
    <${Warnings} warnings=${found.vocabulary_warnings} />
    <p id="timing" class="hint">${timing(found)}</p>
    <details class="meaning">
      <summary>${t("meaning")}</summary>
      <dl>${["score", "logit", "cosine", "threshold", "none"].map(
        (name) => html`<dt>${t(`meaning.${name}`)}</dt><dd>${t(`meaning.${name}.text`)}</dd>`,
      )}</dl>
    </details>`;
}

function timing({ model, vocabulary, timing_ms: { total, ...stages } }) {
  const parts = Object.entries(stages).map(([stage, value]) => `${stage} ${value.toFixed(1)}`).join(", ");
  const asked = vocabulary ?? t("result.own-labels");
  return t("result.timing", { model: `${model.name}@${model.version}`, engine: model.engine, asked, total: number(total, 0), parts });
}

const request = computed(() => {
  if (!chosen.value) return null;
  try {
    return { path: "v1/classify", file: chosen.value.file, options: { ...scoreOptions(), ...viewOptions() } };
  } catch {
    return null; // the error is shown when the request is sent
  }
});

// Classifies the video again when labels or options change, or when a new version of the vocabulary is in use.
export function followQuestion() {
  let isFirst = true;
  effect(() => {
    void [chosenName.value, ownLabels.value, settings.value];
    untracked(() => {
      if (!isFirst) soon();
      noteAsked();
    });
    isFirst = false;
  });
  subscribe(() => {
    const { name, current } = asked;
    noteAsked();
    if (asked.name === name && asked.current !== current && !hasOwnLabels.value) run();
  });
}

function noteAsked() {
  asked.name = chosenName.peek();
  asked.current = factsOf(asked.name)?.current ?? null;
}

