// A correction of the shown answer, if the server stores feedback: uploads the clip with its correct label.
import { problemOf, send, upload } from "../api.js";
import { answer } from "../classification.js";
import { t } from "../i18n.js";
import { html, useState } from "../lib.js";
import { knownLimits } from "../server.js";
import { chosen } from "../video.js";
import { Problem } from "./problem.js";

const IDLE = { text: "", kept: null, problem: null, isSending: false };

export function Correction() {
  if (!answer.value || !knownLimits.value.feedback?.enabled) return null;
  return html`<${CorrectionForm} key=${answer.value.request_id} answer=${answer.value} file=${chosen.value.file} />`;
}

function CorrectionForm({ answer, file }) {
  const [label, setLabel] = useState("");
  const [state, setState] = useState(IDLE);
  const correct = async () => {
    setState({ ...IDLE, isSending: true });
    const onProgress = (share) => setState({ ...IDLE, isSending: true, text: uploadText(share) });
    try {
      const kept = await upload("v1/feedback", formOf(answer, file, label.trim()), { onProgress });
      setState({ ...IDLE, kept, text: keptText(kept) });
    } catch (error) {
      setState({ ...IDLE, problem: problemOf(error), again: correct });
    }
  };
  const withdraw = async () => {
    const { kept } = state;
    try {
      await send("DELETE", `v1/feedback/${encodeURIComponent(kept.id)}`);
      setState({ ...IDLE, text: t("correction.deleted") });
    } catch (error) {
      setState({ ...IDLE, kept, problem: problemOf(error), again: withdraw });
    }
  };
  const submit = (event) => {
    event.preventDefault();
    if (label.trim()) correct();
  };
  return html`<details id="correction">
    <summary>${t("correction.summary")}</summary>
    <form id="correct" onSubmit=${submit}>
      <p class="hint">${t("correction.hint")}</p>
      <div class="beside">
        <input id="right-label" list="right-labels" required autocomplete="off" dir="auto" aria-label=${t("correction.label")}
          value=${label} onInput=${(event) => setLabel(event.target.value)} />
        <datalist id="right-labels">${answer.results.map((result) => html`<option value=${result.label}></option>`)}</datalist>
        <button id="send-correction" class="quiet" disabled=${state.isSending}>${t("send")}</button>
      </div>
      <p id="correction-status" class="hint" role="status">${state.text}
        ${state.kept && html` <button type="button" class="quiet" onClick=${withdraw}>${t("withdraw")}</button>`}
      </p>
      <${Problem} id="correction-problem" problem=${state.problem} again=${state.again} />
    </form>
  </details>`;
}

function formOf(answer, file, label) {
  const said = { label, vocabulary: answer.vocabulary, predicted: answer.results[0]?.label, request_id: answer.request_id };
  const form = new FormData();
  for (const [name, value] of Object.entries(said)) if (value) form.append(name, value);
  form.append("video", file);
  return form;
}

function uploadText(share) {
  return share < 1 ? t("progress.sending", { percent: Math.round(share * 100) }) : t("progress.processing");
}

function keptText(kept) {
  const key = kept.is_duplicate ? "correction.known" : "correction.stored";
  const novelty = kept.is_new_label ? t("correction.novel") : "";
  return t(key, { label: kept.label, novelty });
}
