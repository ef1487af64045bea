// The vocabularies of the server as a table; each opens in the editor.
import { t } from "../i18n.js";
import { html } from "../lib.js";
import { openNew } from "../editor.js";
import { chooseVocabulary } from "../question.js";
import { addressOf } from "../router.js";
import { isEncoding, vocabularies } from "../vocabularies.js";

export function VocabularyList() {
  return html`<section aria-labelledby="vocabularies-heading">
    <div class="bar">
      <h2 id="vocabularies-heading" tabindex="-1">${t("tab.vocabularies")}</h2>
      <button type="button" class="main" onClick=${() => openNew("")}>${t("vocabulary.new")}</button>
    </div>
    <div class="scroll" tabindex="0" role="group" aria-label=${t("tab.vocabularies")}>
      <table>
        <thead><tr>${["name", "labels", "version", "state"].map((name) => html`<th scope="col">${t(`vocabulary.${name}`)}</th>`)}</tr></thead>
        <tbody>${vocabularies.value.map((facts) => html`<${Row} key=${facts.name} facts=${facts} />`)}</tbody>
      </table>
    </div>
  </section>`;
}

function Row({ facts }) {
  return html`<tr>
    <th scope="row"><a href=${addressOf("vocabularies", facts.name)} onClick=${() => chooseVocabulary(facts.name)}>${facts.name}</a>
      ${facts.is_default && html` <span class="tag">${t("vocabulary.default")}</span>`}</th>
    <td>${t("count.labels", { count: facts.num_labels })}</td>
    <td>${facts.current ?? facts.latest}</td>
    <td>${stateText(facts)}</td>
  </tr>`;
}

function stateText(facts) {
  if (facts.encoding?.fault) return t("vocabulary.fault", { fault: facts.encoding.fault });
  return t(isEncoding(facts) ? "vocabulary.encoding" : "vocabulary.in-use");
}
