// Two vocabularies or templates beside each other, on the same video.
import { answer, stored } from "../classification.js";
import { other, otherAnswer, otherProblem, setOther } from "../comparison.js";
import { t } from "../i18n.js";
import { html } from "../lib.js";
import { vocabularies } from "../vocabularies.js";
import { Problem } from "./problem.js";
import { Results } from "./results.js";

export function Comparison() {
  if (!answer.value) return null;
  return html`<section class="wide" id="comparison" aria-labelledby="comparison-heading">
    <h2 id="comparison-heading">${t("compare")}</h2>
    ${stored.value ? html`<${Choice} />` : html`<p class="hint">${t("compare.unstored")}</p>`}
    <${Problem} id="comparison-error" problem=${otherProblem.value} />
    ${otherAnswer.value && html`<div class="columns">
      <div><h3 dir="auto">${titleOf(answer.value)}</h3><${Results} answer=${answer.value} /></div>
      <div id="other"><h3 dir="auto">${titleOf(otherAnswer.value)}</h3><${Results} answer=${otherAnswer.value} /></div>
    </div>`}
  </section>`;
}

function Choice() {
  const { vocabulary, template } = other.value;
  return html`<div class="options even">
    <label>${t("vocabulary")}
      <select id="other-vocabulary" value=${vocabulary} onChange=${(event) => setOther({ vocabulary: event.target.value })}>
        <option value="">${t("compare.none")}</option>
        ${vocabularies.value.map(({ name }) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select></label>
    <label>${t("compare.template")} <input id="other-template" spellcheck=${false} placeholder="a video of {}" value=${template}
      onInput=${(event) => setOther({ template: event.target.value })} /></label>
  </div>`;
}

function titleOf({ vocabulary }) {
  return vocabulary ?? t("result.own-labels");
}
