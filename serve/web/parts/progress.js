// The progress of an upload and of the work that follows, with a button to cancel.
import { t } from "../i18n.js";
import { html } from "../lib.js";

// `share`: of the upload; at 1 the server works, and `done` is the share of that if it is known.
export function Progress({ id, share, done, working = t("progress.classifying"), cancel }) {
  const value = share < 1 ? share : done;
  const text = share < 1 ? t("progress.uploading", { percent: Math.round(share * 100) }) : workText(working, done);
  return html`<div id=${id} class="progress">
    <progress max="1" value=${value} aria-label=${text}></progress>
    <span role="status">${text}</span>
    ${cancel && html`<button id=${id && "cancel"} type="button" class="quiet" onClick=${cancel}>${t("cancel")}</button>`}
  </div>`;
}

function workText(working, done) {
  return done === undefined ? working : `${working} ${Math.round(done * 100)} %`;
}
