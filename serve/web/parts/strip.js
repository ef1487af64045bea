// The strip of a timeline: one row for each label, with its scores as an area and its segments as buttons.
import { clock, percent, t } from "../i18n.js";
import { html } from "../lib.js";
import { position, seek } from "./player.js";

const HUES = 8; // colours of style.css
const MAX_ROWS = 30;

// Returns the labels that have segments, by their first segment, and then those whose best window reaches `lowest`.
export function labelsOf(answer, lowest) {
  const best = new Map();
  for (const window of answer.windows ?? []) {
    for (const { label, score } of window.results) best.set(label, Math.max(best.get(label) ?? 0, score ?? 0));
  }
  const shown = [...new Set(answer.segments.map(({ label }) => label))];
  const others = [...best.keys()]
    .filter((label) => !shown.includes(label) && best.get(label) >= lowest)
    .sort((one, other) => best.get(other) - best.get(one));
  return [...shown, ...others];
}

export function Strip({ answer, labels }) {
  const duration = Math.max(answer.video.duration_seconds, 1e-3);
  const threshold = answer.segment_rule?.threshold_on ?? null;
  return html`<div class="strip" id="strip">
    <div class="strip-scale" aria-hidden="true"><span></span>
      <div class="track scale">${ticks(duration).map(
        (seconds) => html`<span key=${seconds} style=${{ left: `${(seconds / duration) * 100}%` }}>${clock(seconds)}</span>`,
      )}</div>
    </div>
    <ul>${labels.slice(0, MAX_ROWS).map((label, index) => html`<${Row} key=${label} label=${label} hue=${index % HUES}
      answer=${answer} duration=${duration} threshold=${threshold} />`)}</ul>
    ${labels.length > MAX_ROWS && html`<p class="hint">${t("timeline.more-labels", { count: labels.length - MAX_ROWS })}</p>`}
    <${Playhead} duration=${duration} />
  </div>`;
}

function Playhead({ duration }) {
  const left = Math.min(1, position.value / duration);
  return html`<div class="strip-scale playhead" aria-hidden="true"><span></span>
    <div class="track-line"><i style=${{ left: `${left * 100}%` }}></i></div></div>`;
}

function Row({ label, hue, answer, duration, threshold }) {
  const segments = answer.segments.filter((segment) => segment.label === label);
  const jump = (event) => {
    if (event.target.closest("button")) return;
    const box = event.currentTarget.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * duration);
  };
  return html`<li class=${`strip-row hue-${hue}`}>
    <span class="strip-label" dir="auto" title=${label}>${label}</span>
    <div class="track" onClick=${jump}>
      <${Curve} label=${label} windows=${answer.windows ?? []} duration=${duration} threshold=${threshold} />
      ${segments.map((segment) => html`<${Segment} key=${segment.start_seconds} segment=${segment} duration=${duration} />`)}
    </div>
  </li>`;
}

function Segment({ segment, duration }) {
  const { label, start_seconds: start, end_seconds: end, score } = segment;
  const name = t("timeline.segment", { label, start: clock(start), end: clock(end), score: percent(score) });
  const style = { left: `${(start / duration) * 100}%`, width: `${((end - start) / duration) * 100}%` };
  return html`<button type="button" class="segment" style=${style} title=${name} aria-label=${name}
    onClick=${() => seek(start, { plays: true })}><span></span></button>`;
}

// The scores of a label over the windows; a window in which it is not among the best has none.
function Curve({ label, windows, duration, threshold }) {
  const points = windows.map((window) => {
    const score = window.results.find((result) => result.label === label)?.score ?? 0;
    return [((window.start_seconds + window.end_seconds) / 2 / duration) * 1000, (1 - score) * 100];
  });
  if (!points.length) return null;
  points.unshift([0, points[0][1]]);
  points.push([1000, points.at(-1)[1]]); // the outer windows stand for both ends
  const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  return html`<svg class="curve" viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
    <polygon points=${`0,100 ${line} 1000,100`} />
    ${threshold !== null && html`<line x1="0" x2="1000" y1=${(1 - threshold) * 100} y2=${(1 - threshold) * 100} />`}
  </svg>`;
}

function ticks(duration) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
  const step = steps.find((size) => duration / size <= 6) ?? 7200;
  return Array.from({ length: Math.floor(duration / step) + 1 }, (_, index) => index * step);
}
