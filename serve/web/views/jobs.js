// Jobs: many or long videos in the background, with their progress, results and problems.
import { download, getLines, problemOf } from "../api.js";
import { moment, percent, t } from "../i18n.js";
import { createJob, filters, FINISHED, jobs, nextPage, problem, readJobs, readMoreJobs, removeJob, setFilter, showJobs } from "../job_list.js";
import { html, useEffect, useRef, useState } from "../lib.js";
import { Labels } from "../parts/labels.js";
import { Problem } from "../parts/problem.js";
import { Progress } from "../parts/progress.js";
import { RequestCode } from "../parts/request_code.js";
import { labelOptions } from "../question.js";

const KINDS = ["classify", "timeline", "embed"];
const STATES = ["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"];
const ACCEPTED = "video/*,image/*,.mkv,.avi,.ts,.mpg";
const SHOWN_LINES = 20;

export function Jobs() {
  useEffect(showJobs, []);
  return html`<div class="pair">
    <section aria-labelledby="jobs-heading">
      <div class="bar"><h2 id="jobs-heading">${t("tab.jobs")}</h2>
        <${Filter} name="status" values=${STATES} /><${Filter} name="kind" values=${KINDS} />
      </div>
      <${Problem} id="error" problem=${problem.value} again=${readJobs} />
      ${jobs.value?.length === 0 && html`<p class="hint">${t("jobs.empty")}</p>`}
      <ul class="cards" id="jobs">${(jobs.value ?? []).map((job) => html`<${Job} key=${job.id} job=${job} />`)}</ul>
      ${nextPage.value && html`<button type="button" class="quiet" onClick=${readMoreJobs}>${t("jobs.more")}</button>`}
    </section>
    <div class="stack"><${NewJob} /><${Labels} /></div>
  </div>`;
}

function Filter({ name, values }) {
  const text = (value) => t(name === "status" ? `jobs.status.${value}` : `jobs.kind.${value}`);
  return html`<select class="narrow" id=${`filter-${name}`} aria-label=${t(`jobs.${name}`)} value=${filters.value[name]} onChange=${(event) => setFilter(name, event.target.value)}>
    <option value="">${t(`jobs.any-${name}`)}</option>
    ${values.map((value) => html`<option key=${value} value=${value}>${text(value)}</option>`)}
  </select>`;
}

function Job({ job }) {
  const [fault, setFault] = useState(null);
  const { id, kind, status, request_counts: counts, progress, created_at } = job;
  const isFinished = FINISHED.includes(status);
  const attempt = (act) => () => act().then(() => setFault(null), (error) => setFault(problemOf(error)));
  const style = { completed: "good", failed: "bad", expired: "bad" }[status] ?? "";
  const name = t("jobs.name", { kind: t(`jobs.kind.${kind}`), time: moment(created_at) });
  return html`<li class="card job" data-id=${id}>
    <div class="row"><strong>${name}</strong> <span class=${`tag ${style}`}>${t(`jobs.status.${status}`)}</span></div>
    ${!isFinished && html`<progress max="1" value=${progress} aria-label=${t("jobs.progress", { name })}></progress>`}
    <span class="hint" role="status">${t("jobs.counts", { ...counts, count: counts.total })}${isFinished ? "" : `, ${percent(progress)}`}</span>
    <${Problem} problem=${job.problem ?? fault} />
    <div class="beside wrap">
      ${counts.completed > 0 && html`<button type="button" class="quiet" onClick=${attempt(() => download(`v1/jobs/${id}/output`, `${id}.jsonl`))}>${t("jobs.output")}</button>`}
      ${counts.failed > 0 && html`<button type="button" class="quiet" onClick=${attempt(() => download(`v1/jobs/${id}/errors`, `${id}-errors.jsonl`))}>${t("jobs.errors")}</button>`}
      ${status !== "cancelling" && html`<button type="button" class="danger" aria-label=${`${t(isFinished ? "delete" : "cancel")}: ${name}`} onClick=${attempt(() => removeJob(id))}>${t(isFinished ? "delete" : "cancel")}</button>`}
    </div>
    ${counts.completed + counts.failed > 0 && html`<${Lines} id=${id} counts=${counts} />`}
  </li>`;
}

// The first results and problems, read when they are opened.
function Lines({ id, counts }) {
  const [lines, setLines] = useState(null);
  const [fault, setFault] = useState(null);
  const read = async (event) => {
    if (!event.target.open) return;
    try {
      const found = await Promise.all([getLines(`v1/jobs/${id}/output`), getLines(`v1/jobs/${id}/errors`)]);
      setLines(found.flat().sort((one, other) => one.index - other.index));
      setFault(null);
    } catch (error) {
      setFault(problemOf(error));
    }
  };
  return html`<details onToggle=${read}><summary>${t("jobs.inputs")}</summary>
    <${Problem} problem=${fault} />
    ${lines && html`<ul class="lines">${lines.slice(0, SHOWN_LINES).map(
      (line) => html`<li key=${line.index}><span class="name" dir="auto">${line.input}</span> <span dir="auto" class=${line.problem ? "fault" : "hint"}>${summaryOf(line)}</span></li>`,
    )}</ul>`}
    ${lines?.length > SHOWN_LINES && html`<p class="hint">${t("jobs.more-lines", { count: lines.length - SHOWN_LINES })}</p>`}
  </details>`;
}

function summaryOf({ kind, result, problem: fault }) {
  if (fault) return `${fault.title}: ${fault.detail ?? ""}`;
  if (kind === "classify") return result.results.slice(0, 3).map(({ label, score, logit }) => `${label} ${score === null ? logit.toFixed(2) : percent(score)}`).join(", ");
  if (kind === "timeline") return t("jobs.segments", { count: (result.segments ?? []).length });
  return t("jobs.embedded");
}

function NewJob() {
  const [kind, setKind] = useState("classify");
  const [files, setFiles] = useState([]);
  const [share, setShare] = useState(null);
  const [fault, setFault] = useState(null);
  const input = useRef(null);
  const abort = useRef(null);
  const submit = async (event) => {
    event.preventDefault();
    if (!files.length || share !== null) return;
    abort.current = new AbortController();
    setShare(0);
    try {
      await createJob({ kind, options: optionsOf(kind), files }, { signal: abort.current.signal, onProgress: setShare });
      input.current.value = "";
      setFiles([]);
      setFault(null);
    } catch (error) {
      if (error.name !== "AbortError") setFault(problemOf(error));
    }
    setShare(null);
  };
  return html`<section aria-labelledby="new-job-heading">
    <h2 id="new-job-heading">${t("jobs.new")}</h2>
    <form id="new-job" onSubmit=${submit}>
      <label for="job-kind">${t("jobs.kind")}</label>
      <select id="job-kind" value=${kind} onChange=${(event) => setKind(event.target.value)}>
        ${KINDS.map((name) => html`<option key=${name} value=${name}>${t(`jobs.kind.${name}`)}</option>`)}
      </select>
      <label for="job-files">${t("jobs.files")}</label>
      <input id="job-files" ref=${input} type="file" accept=${ACCEPTED} multiple onChange=${(event) => setFiles([...event.target.files])} />
      <p class="hint">${t(kind === "embed" ? "jobs.hint-embed" : "jobs.hint")}</p>
      ${share !== null && html`<${Progress} share=${share} working=${t("progress.processing")} cancel=${() => abort.current.abort()} />`}
      <${Problem} problem=${fault} />
      <button class="main" disabled=${!files.length || share !== null}>${t("jobs.create")}</button>
    </form>
    <${RequestCode} request=${files.length ? requestOf(kind, files) : null} />
  </section>`;
}

function optionsOf(kind) {
  return kind === "embed" ? {} : labelOptions();
}

function requestOf(kind, files) {
  try {
    return { path: "v1/jobs", files, fields: { kind }, options: optionsOf(kind) };
  } catch {
    return null; // the error is shown when the request is sent
  }
}
