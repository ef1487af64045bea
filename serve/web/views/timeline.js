// Timeline: when a video shows which label, as a strip over the player and as a table.
import { clock, number, percent, t } from "../i18n.js";
import { computed, effect, html, signal, untracked, useEffect } from "../lib.js";
import { files, nameOf, readVideos, videos } from "../library.js";
import { Labels } from "../parts/labels.js";
import { Player, seek } from "../parts/player.js";
import { Problem } from "../parts/problem.js";
import { Progress } from "../parts/progress.js";
import { RequestCode } from "../parts/request_code.js";
import { Warnings } from "../parts/results.js";
import { labelsOf, Strip } from "../parts/strip.js";
import { ownLabels, settings } from "../question.js";
import { saveText } from "../save.js";
import { segmentsAsCsv, segmentsAsSrt, segmentsAsVtt } from "../timeline_files.js";
import {
  answer, problem, progress, run, segmentOptions, setTyped, soon, source, stop, takeFile, takeStored, typed, windowOptions,
} from "../timelines.js";
import { chosen } from "../video.js";
import { chosenName } from "../vocabularies.js";

const FORMATS = {
  csv: ["text/csv", segmentsAsCsv],
  srt: ["application/x-subrip", segmentsAsSrt],
  vtt: ["text/vtt", segmentsAsVtt],
};
const FAINT_SCORE = 0.05; // labels below it are shown only if the filter names them
const filter = signal("");
const onlySegments = signal(false);

export function Timeline() {
  useEffect(() => {
    readVideos().catch(() => {}); // the list of stored videos stays away
    if (chosen.peek() && !answer.peek() && !progress.peek()) run();
  }, []);
  const facts = answer.value && factsText(answer.value.video);
  return html`<div class="pair">
    <div class="stack">
      <${Player} takeFiles=${takeTimelineFiles} facts=${facts} multiple=${false}>
        ${source.value && !files.value.has(source.value) && html`<p class="hint">${t("timeline.no-source")}</p>`}
      <//>
      <section aria-labelledby="timeline-heading" aria-busy=${Boolean(progress.value)}>
        <h2 id="timeline-heading">${t("tab.timeline")}</h2>
        ${progress.value && html`<${Progress} id="progress" ...${progress.value} working=${t("timeline.working")} cancel=${stop} />`}
        <${Problem} id="error" problem=${problem.value} again=${run} />
        ${answer.value ? html`<${Found} found=${answer.value} />` : html`<p class="hint">${t("timeline.empty")}</p>`}
        <${RequestCode} request=${request.value} />
      </section>
    </div>
    <${Choice} />
  </div>`;
}

export function takeTimelineFiles(chosenFiles) {
  if (chosenFiles.length) takeFile(chosenFiles[0]);
}

function Choice() {
  const stored = (videos.value ?? []).filter(({ kind, stale }) => kind === "windows" && !stale);
  return html`<div class="stack">
    ${stored.length > 0 && html`<section aria-labelledby="stored-heading">
      <h2 id="stored-heading">${t("timeline.stored")}</h2>
      <select aria-labelledby="stored-heading" id="stored-video" value=${source.value ?? ""} onChange=${(event) => takeStored(event.target.value)}>
        <option value="">${t("timeline.stored.none")}</option>
        ${stored.map((video) => html`<option key=${video.video_id} value=${video.video_id}>${describe(video)}</option>`)}
      </select>
    </section>`}
    <${Labels}>
      ${source.value ? null : html`<${Numbers} names=${["window_seconds", "stride_seconds"]} max="600" />`}
      <${Numbers} names=${["threshold_on", "threshold_off"]} max="1" />
      <${Numbers} names=${["min_segment_seconds", "gap_seconds"]} max="3600" />
    <//>
  </div>`;
}

function describe({ video_id, source: facts, tags }) {
  const words = [nameOf(video_id), clock(facts.duration_seconds), ...tags];
  return words.join(" · ");
}

function Numbers({ names, max }) {
  return names.map(
    (name) => html`<label key=${name}>${t(`timeline.${name}`)}
      <input id=${name} type="number" min="0" max=${max} step="any" placeholder=${t("timeline.auto")} value=${typed.value[name] ?? ""}
        onInput=${(event) => setTyped(name, event.target.value)} /></label>`,
  );
}

function Found({ found }) {
  const labels = shownLabels(found);
  const segments = found.segments.filter((segment) => labels.includes(segment.label));
  return html`
    ${found.video.truncated && html`<p class="notice" role="status">${t("timeline.truncated")}</p>`}
    <${Warnings} warnings=${found.vocabulary_warnings} />
    <div class="bar">
      <div class="beside filters">
        <input id="label-filter" type="search" dir="auto" placeholder=${t("timeline.filter")} aria-label=${t("timeline.filter")}
          value=${filter.value} onInput=${(event) => (filter.value = event.target.value)} />
        <label class="tick"><input type="checkbox" checked=${onlySegments.value} onChange=${(event) => (onlySegments.value = event.target.checked)} />
          ${t("timeline.only-segments")}</label>
      </div>
      <span class="hint" role="status">${t("timeline.count", { count: segments.length, windows: found.num_windows })}</span>
      ${Object.keys(FORMATS).map((format) => html`<button key=${format} id=${`save-${format}`} type="button" class="quiet"
        onClick=${() => save(format, segments)}>${format.toUpperCase()}</button>`)}
      <button id="save-json" type="button" class="quiet" onClick=${() => saveText(JSON.stringify(found, null, 1), fileName("json"), "application/json")}>JSON</button>
    </div>
    <${Strip} answer=${found} labels=${labels} />
    ${!segments.length && html`<p class="hint">${t("timeline.none")}</p>`}
    <${Segments} segments=${segments} />
    <p id="timing" class="hint">${ruleText(found)}</p>`;
}

function shownLabels(found) {
  const wanted = filter.value.trim().toLowerCase();
  const withSegments = new Set(found.segments.map(({ label }) => label));
  const lowest = wanted ? 0 : FAINT_SCORE;
  return labelsOf(found, lowest).filter(
    (label) => label.toLowerCase().includes(wanted) && (!onlySegments.value || withSegments.has(label)),
  );
}

function Segments({ segments }) {
  if (!segments.length) return null;
  return html`<div class="scroll short" tabindex="0" role="group" aria-label=${t("timeline.segments")}>
    <table id="segments">
      <thead><tr>${["from", "to", "label", "score"].map((name) => html`<th scope="col">${t(`timeline.${name}`)}</th>`)}</tr></thead>
      <tbody>${segments.map(
        (segment) => html`<tr key=${`${segment.label}-${segment.start_seconds}`}>
          <td><button type="button" class="quiet number" aria-label=${t("play-from", { time: clock(segment.start_seconds), label: segment.label })}
            onClick=${() => seek(segment.start_seconds, { plays: true })}>▶ ${clock(segment.start_seconds)}</button></td>
          <td class="number">${clock(segment.end_seconds)}</td>
          <th scope="row" dir="auto">${segment.label}</th>
          <td class="number">${percent(segment.score)}</td>
        </tr>`,
      )}</tbody>
    </table>
  </div>`;
}

function factsText(video) {
  const name = source.value ? nameOf(source.value) : chosen.value?.file.name;
  const { num_frames: count, width, height, fps, duration_seconds } = video;
  return t("video.facts", { name, count, width: String(width), height: String(height), fps: number(fps, 2), seconds: number(duration_seconds, 2) });
}

function ruleText({ model, vocabulary, window_seconds, stride_seconds, segment_rule: rule, timing_ms }) {
  const threshold = rule?.threshold_on === null || !rule ? t("timeline.own-thresholds") : number(rule.threshold_on, 2);
  return t("timeline.rule", {
    model: `${model.name}@${model.version}`, asked: vocabulary ?? t("result.own-labels"), window: number(window_seconds, 2),
    stride: number(stride_seconds, 2), threshold, total: number(totalOf(timing_ms), 0),
  });
}

function save(format, segments) {
  const [type, write] = FORMATS[format];
  saveText(write(segments), fileName(format), type);
}

function fileName(format) {
  const name = source.value ? nameOf(source.value) : chosen.value.file.name;
  return `${name.replace(/\.\w{1,5}$/, "")}.${format}`;
}

const request = computed(() => {
  try {
    const segments = segmentOptions();
    if (source.value) return { path: `v1/videos/${source.value}:timeline`, json: segments };
    return chosen.value ? { path: "v1/timeline", file: chosen.value.file, options: { ...segments, ...windowOptions() } } : null;
  } catch {
    return null; // the error is shown when the request is sent
  }
});

// Asks again when labels or options change.
export function followTimelineQuestion() {
  let isFirst = true;
  effect(() => {
    void [chosenName.value, ownLabels.value, settings.value.template, typed.value];
    if (!isFirst) untracked(soon);
    isFirst = false;
  });
}

// The result of a job has no total, because the job waited between its stages.
function totalOf(timingMs) {
  return timingMs.total ?? Object.values(timingMs).reduce((sum, value) => sum + value, 0);
}
