// The chosen video: drop zone, player, and what lies on its time axis.
import { bytes, number, t } from "../i18n.js";
import { html, signal, useEffect, useState } from "../lib.js";
import { knownLimits } from "../server.js";
import { chosen } from "../video.js";
import { Recorder } from "./recorder.js";

const ACCEPTED = "video/*,image/*,.mkv,.avi,.ts,.mpg";
const MIB = 2 ** 20;
export const isDraggedOver = signal(false);
export const position = signal(0); // seconds of the player
const player = { current: null };

export function seek(seconds, { plays = false } = {}) {
  const video = player.current;
  if (!video) return;
  video.currentTime = seconds;
  if (plays) video.play().catch(() => {}); // the browser may refuse
  else video.pause();
}

// `takeFiles`: called with the chosen files; `children` stand below the player.
export function Player({ takeFiles, children, facts, multiple = true }) {
  const video = chosen.value;
  const take = (event) => {
    takeFiles([...event.target.files]);
    event.target.value = ""; // the same file may be chosen again
  };
  return html`<section class="player-panel" aria-labelledby="video-heading">
    <h2 id="video-heading">${t("video")}</h2>
    <label id="drop" class=${isDraggedOver.value ? "drop over" : "drop"} for="file" hidden=${Boolean(video)}>
      <input id="file" type="file" accept=${ACCEPTED} multiple=${multiple} onChange=${take} />
      <strong>${t("drop")}</strong>
      <span>${multiple ? t("drop.choose-many") : t("drop.choose")}${limitText()}</span>
    </label>
    ${video && html`<${Shown} key=${video.url} video=${video} facts=${facts}>${children}<//>`}
    <div class="beside actions">
      ${video && html`<button id="another" type="button" class="quiet" onClick=${() => document.getElementById("file").click()}>${t("video.another")}</button>`}
      <${Recorder} take=${(file) => takeFiles([file])} />
    </div>
  </section>`;
}

function limitText() {
  const limit = knownLimits.value.max_upload_bytes;
  return html`<span id="limit">${limit ? t("drop.limit", { size: Math.round(limit / MIB) }) : ""}</span>`;
}

function Shown({ video, facts, children }) {
  const [isUnplayable, setUnplayable] = useState(false);
  useEffect(() => () => (position.value = 0), []);
  const fail = () => setUnplayable(true);
  const { name, size } = video.file;
  return html`<div id="player">
    ${video.isPicture
      ? html`<img id="picture" src=${video.url} alt=${t("video.picture")} hidden=${isUnplayable} onError=${fail} />`
      : html`<video id="video" ref=${player} src=${video.url} controls muted playsinline hidden=${isUnplayable} onError=${fail}
          aria-label=${t("video")} onTimeUpdate=${(event) => (position.value = event.target.currentTime)}></video>`}
    ${isUnplayable && html`<p id="unplayable" class="hint">${t("video.unplayable")}</p>`}
    ${children}
    <p id="facts" class="hint" dir="auto">${facts ?? `${name}, ${bytes(size)}`}</p>
  </div>`;
}

// The sampled frames as marks on the time axis.
export function FrameAxis({ sampling }) {
  const duration = Math.max(sampling?.duration_seconds ?? 0, 1e-3);
  const marks = (sampling?.pts_seconds ?? []).flatMap((clip, c) =>
    clip.map((pts, i) => ({ pts, frame: sampling.frame_indices[c][i], key: `${c}-${i}` })),
  );
  return html`<div id="axis" class="axis" role="group" aria-label=${t("axis")}>
    ${marks.map(({ pts, frame, key }) => {
      const name = t("axis.frame", { frame: String(frame), seconds: pts.toFixed(2) });
      const style = { left: `${Math.min(1, pts / duration) * 100}%` };
      return html`<button key=${key} type="button" style=${style} title=${name} aria-label=${name} data-pts=${pts} onClick=${() => seek(pts)}></button>`;
    })}
  </div>`;
}

export function samplingText(sampling, name) {
  const { num_frames: count, width, height, fps, duration_seconds } = sampling;
  return t("video.facts", { name, count, width: String(width), height: String(height), fps: number(fps, 2), seconds: number(duration_seconds, 2) });
}
