// A problem (RFC 9457) with what to do about it.
import { t } from "../i18n.js";
import { html } from "../lib.js";
import en from "../messages/en.js";

// `again` adds a button if a retry may succeed.
export function Problem({ id, problem, again }) {
  if (!problem) return null;
  const advice = adviceOf(problem);
  return html`<div id=${id} class="error" role="alert">
    <strong>${problem.title ?? t("problem.title")}</strong>
    <span dir="auto">${problem.detail ?? ""}</span>
    ${advice && html`<span class="advice">${advice}</span>`}
    ${again && problem.isPassing && html`<button type="button" class="quiet" onClick=${again}>${t("again")}</button>`}
  </div>`;
}

function adviceOf(problem) {
  const kind = String(problem.type ?? "").split("/").at(-1);
  return `advice.${kind}` in en ? t(`advice.${kind}`) : null;
}
