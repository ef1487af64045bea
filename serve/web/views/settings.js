// Settings of this browser, and the limits of the server.
import { bytes, LANGUAGES, language, setLanguage, t } from "../i18n.js";
import { askForKey, forgetKey, isKeyStored } from "../key.js";
import { html } from "../lib.js";
import { knownLimits } from "../server.js";
import { setTheme, theme, THEMES } from "../theme.js";

export function Settings() {
  return html`<div class="columns">
    <section aria-labelledby="page-heading">
      <h2 id="page-heading">${t("settings.page")}</h2>
      <label for="language">${t("settings.language")}</label>
      <select id="language" value=${language.value} onChange=${(event) => setLanguage(event.target.value)}>
        ${Object.entries(LANGUAGES).map(([code, name]) => html`<option value=${code} lang=${code}>${name}</option>`)}
      </select>
      <fieldset class="choices">
        <legend>${t("settings.theme")}</legend>
        ${THEMES.map(
          (name) => html`<label class="tick"><input type="radio" name="theme" value=${name} checked=${theme.value === name}
            onChange=${() => setTheme(name)} /> ${t(`settings.theme.${name}`)}</label>`,
        )}
      </fieldset>
    </section>
    <section aria-labelledby="access-heading">
      <h2 id="access-heading">${t("settings.key")}</h2>
      <p class="hint">${t(isKeyStored.value ? "settings.key.stored" : "settings.key.none")}</p>
      <div class="beside">
        <button type="button" class="quiet" onClick=${() => askForKey("")}>${t("settings.key.enter")}</button>
        ${isKeyStored.value && html`<button type="button" class="quiet" onClick=${forgetKey}>${t("settings.key.forget")}</button>`}
      </div>
    </section>
    <section aria-labelledby="limits-heading">
      <h2 id="limits-heading">${t("settings.limits")}</h2>
      <dl class="facts">${limitRows(knownLimits.value).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>
    </section>
  </div>`;
}

function limitRows(limits) {
  if (!limits.max_upload_bytes) return [];
  return [
    [t("limits.upload"), bytes(limits.max_upload_bytes)],
    [t("limits.duration"), t("limits.seconds", { seconds: limits.decode.max_duration_seconds })],
    [t("limits.labels"), t("count.labels", { count: limits.vocabularies.max_labels })],
    [t("limits.job-inputs"), t("count.files", { count: limits.jobs.max_inputs })],
    [t("limits.job-upload"), bytes(limits.jobs.max_upload_bytes)],
    [t("limits.containers"), limits.containers.join(", ")],
    [t("limits.codecs"), limits.codecs.join(", ")],
  ];
}
