// The queue of files as a table of their best labels.
import { percent, t } from "../i18n.js";
import { take } from "../classification.js";
import { html } from "../lib.js";
import { closeQueue, isRunning, queue, runQueue, saveQueueAsCsv, saveQueueAsJson, stopQueue } from "../queue.js";

export function Queue() {
  const items = queue.value;
  if (!items.length) return null;
  const done = items.filter(({ answer, problem }) => answer || problem).length;
  return html`<section class="wide" id="queue" aria-labelledby="queue-heading">
    <div class="bar"><h2 id="queue-heading">${t("queue")}</h2>
      <span class="hint" role="status">${t("queue.done", { done, count: items.length })}</span>
      ${isRunning.value
        ? html`<button id="queue-stop" type="button" class="quiet" onClick=${stopQueue}>${t("queue.cancel")}</button>`
        : html`<button id="queue-run" type="button" class="quiet" onClick=${() => runQueue({ again: true })}>${t("queue.run")}</button>`}
      <button id="queue-csv" type="button" class="quiet" disabled=${!done} onClick=${saveQueueAsCsv}>CSV</button>
      <button id="queue-json" type="button" class="quiet" disabled=${!done} onClick=${saveQueueAsJson}>JSON</button>
      <button type="button" class="quiet" onClick=${closeQueue}>${t("queue.remove")}</button>
    </div>
    <div class="scroll short" tabindex="0" role="group" aria-labelledby="queue-heading">
      <table>
        <thead><tr><th scope="col">${t("queue.file")}</th><th scope="col">${t("queue.label")}</th><th scope="col">${t("timeline.score")}</th></tr></thead>
        <tbody>${items.map((item, index) => html`<${Item} key=${index} item=${item} />`)}</tbody>
      </table>
    </div>
  </section>`;
}

function Item({ item: { file, status, share, answer, problem } }) {
  const best = answer?.results[0];
  const score = best && (best.score === null ? best.logit.toFixed(2) : percent(best.score));
  return html`<tr>
    <th scope="row"><button type="button" class="quiet" dir="auto" aria-label=${t("queue.open", { name: file.name })} onClick=${() => take(file)}>${file.name}</button></th>
    <td dir="auto" class=${problem ? "fault" : ""}>${best?.label ?? (problem ? `${problem.title}: ${problem.detail ?? ""}` : stateText(status, share))}</td>
    <td class="number">${score ?? ""}</td>
  </tr>`;
}

function stateText(status, share) {
  if (status !== "running") return t(`queue.state.${status}`);
  return share < 1 ? t("progress.uploading", { percent: Math.round(share * 100) }) : t("progress.classifying");
}
