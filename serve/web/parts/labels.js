// The choice of labels: a vocabulary or labels of one's own, suggestions, and options.
import { getJson } from "../api.js";
import { t } from "../i18n.js";
import { html, signal, useEffect } from "../lib.js";
import { addOwnLabel, chooseVocabulary, hasOwnLabels, ownLabels, setOption, settings } from "../question.js";
import { go } from "../router.js";
import { chosenName, isEncoding, vocabularies } from "../vocabularies.js";
import { openNew } from "../editor.js";

const SUGGESTED = 10;
const suggestions = signal([]);

// `children` are further options of the view.
export function Labels({ children, hasViews }) {
  return html`<section class="labels-panel" aria-labelledby="labels-heading">
    <h2 id="labels-heading">${t("labels")}</h2>
    <label for="vocabulary">${t("vocabulary")}</label>
    <div class="beside">
      <${VocabularyChoice} id="vocabulary" value=${chosenName.value} choose=${chooseVocabulary} />
      <button id="edit-vocabulary" type="button" class="quiet" onClick=${() => go("vocabularies", chosenName.value)}>${t("edit")}</button>
      <button id="make-vocabulary" type="button" class="quiet" onClick=${() => openNew(ownLabels.value)}>${t("new")}</button>
    </div>
    <label for="labels">${t("labels.own")}</label>
    <textarea id="labels" rows="5" dir="auto" spellcheck=${false} placeholder=${t("labels.placeholder")}
      value=${ownLabels.value} onInput=${(event) => (ownLabels.value = event.target.value)}></textarea>
    <${Suggestions} />
    ${hasOwnLabels.value && html`<p id="own-hint" class="hint">${t("labels.own-hint")}</p>`}
    <details>
      <summary>${t("options")}</summary>
      <div class="options">
        <label>${t("option.template")} <${Typed} name="template" placeholder=${t("option.default")} spellcheck=${false} /></label>
        ${hasViews && html`<${ViewOptions} />`}
        ${children}
      </div>
    </details>
  </section>`;
}

export function VocabularyChoice({ id, value, choose, label }) {
  return html`<select id=${id} aria-label=${label} value=${value} onChange=${(event) => choose(event.target.value)}>
    ${vocabularies.value.map(
      (facts) => html`<option key=${facts.name} value=${facts.name} selected=${facts.name === value}>${describe(facts)}</option>`,
    )}
  </select>`;
}

function describe(facts) {
  const key = isEncoding(facts) ? "vocabulary.choice-encoding" : "vocabulary.choice";
  return t(key, { name: facts.name, labels: t("count.labels", { count: facts.num_labels }) });
}

// An option as a text or number field.
function Typed({ name, ...rest }) {
  return html`<input id=${name} value=${settings.value[name]} onInput=${(event) => setOption(name, event.target.value)} ...${rest} />`;
}

function Selected({ name, choices }) {
  return html`<select id=${name} value=${settings.value[name]} onChange=${(event) => setOption(name, event.target.value)}>
    ${choices.map(([value, text]) => html`<option value=${value}>${text}</option>`)}
  </select>`;
}

function ViewOptions() {
  const functions = ["softmax", "sigmoid", "none"].map((name) => [name, name]);
  return html`
    <label>${t("option.top_k")} <${Typed} name="top_k" type="number" min="1" max="100" /></label>
    <label>${t("option.num_clips")} <${Typed} name="num_clips" type="number" min="1" max="10" /></label>
    <label>${t("option.num_crops")} <${Selected} name="num_crops" choices=${[["1", "1"], ["3", "3"]]} /></label>
    <label>${t("option.function")} <${Selected} name="function_to_apply" choices=${[["", t("option.default")], ...functions]} /></label>`;
}

// The first labels of the default vocabulary; a click adds one to the labels of one's own.
function Suggestions() {
  const source = vocabularies.value.find((facts) => facts.is_default)?.name;
  useEffect(() => {
    if (!source) return;
    getJson(`v1/vocabularies/${encodeURIComponent(source)}`).then(({ labels }) => {
      suggestions.value = labels.slice(0, SUGGESTED).map((label) => label.name);
    }, () => {}); // the page works without them
  }, [source]);
  if (!suggestions.value.length) return null;
  return html`<p id="suggestions" class="hint suggestions"><span>${t("labels.try")}</span>
    ${suggestions.value.map(
      (name) => html`<button key=${name} type="button" class="quiet suggestion" dir="auto" onClick=${() => addOwnLabel(name)}>${name}</button>`,
    )}
  </p>`;
}
