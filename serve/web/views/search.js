// Search: windows of stored videos by a text, a part of a stored video, or a clip; and the stored videos.
import { problemOf } from "../api.js";
import { bytes, clock, moment, number, t } from "../i18n.js";
import { parseDocument } from "../label_lists.js";
import { html, signal, useEffect, useState } from "../lib.js";
import { attach, deleteVideo, files, hasMore, nameOf, readVideos, videos } from "../library.js";
import { Problem } from "../parts/problem.js";
import { Progress } from "../parts/progress.js";
import { RequestCode } from "../parts/request_code.js";
import { addressOf, go } from "../router.js";
import { answer, problem, progress, search, searchRequest, stopSearch, stopStoring, storeProblem, storeVideos, storing } from "../searching.js";
import { takeStored } from "../timelines.js";

const MODES = ["text", "part", "clip"];
const ACCEPTED = "video/*,image/gif,.mkv,.avi,.ts,.mpg";
const form = signal({ mode: "text", text: "", video_id: "", start_seconds: "", end_seconds: "", file: null, top_k: "10", tag: "" });
const playing = signal(null); // the result that is played

const set = (name, value) => (form.value = { ...form.value, [name]: value });

export function Search() {
  const [listProblem, setListProblem] = useState(null);
  const read = () => readVideos().then(() => setListProblem(null), (error) => setListProblem(problemOf(error)));
  useEffect(() => {
    read();
  }, []);
  return html`<div class="pair">
    <section aria-labelledby="search-heading">
      <h2 id="search-heading">${t("search.heading")}</h2>
      <${Query} />
      ${progress.value && html`<${Progress} id="progress" share=${progress.value.share} working=${t("search.working")} cancel=${stopSearch} />`}
      <${Problem} id="error" problem=${problem.value} />
      ${answer.value ? html`<${Found} found=${answer.value} />` : html`<p class="hint">${t("search.empty")}</p>`}
    </section>
    <section aria-labelledby="library-heading">
      <h2 id="library-heading">${t("library")}</h2>
      <${Store} />
      <${Problem} id="library-error" problem=${listProblem} again=${read} />
      <${Library} />
    </section>
  </div>`;
}

export function takeSearchFiles(chosen) {
  if (!storing.value) storeVideos(chosen, { tags: [], days: null });
}

function queryOf({ mode, text, video_id, start_seconds, end_seconds, file }) {
  if (mode === "text") return text.trim() ? { text: text.trim() } : null;
  if (mode === "part") return video_id ? { video_id, start_seconds, end_seconds } : null;
  return file ? { file } : null;
}

function optionsOf({ top_k, tag }) {
  return { top_k: Number(top_k) || 10, ...(tag.trim() ? { tag: tag.trim() } : {}) };
}

function Query() {
  const { mode, top_k, tag } = form.value;
  const query = queryOf(form.value);
  const submit = (event) => {
    event.preventDefault();
    playing.value = null;
    if (query) search(query, optionsOf(form.value));
  };
  return html`<form id="search-form" onSubmit=${submit}>
    <fieldset class="choices"><legend>${t("search.by")}</legend>
      ${MODES.map((name) => html`<label key=${name} class="tick"><input type="radio" name="mode" value=${name} checked=${mode === name}
        onChange=${() => set("mode", name)} /> ${t(`search.mode.${name}`)}</label>`)}
    </fieldset>
    <${QueryFields} />
    <div class="options even">
      <label>${t("search.tag")} <input id="search-tag" maxlength="64" dir="auto" value=${tag} onInput=${(event) => set("tag", event.target.value)} /></label>
      <label>${t("option.top_k")} <input id="search-top" type="number" min="1" max="100" value=${top_k} onInput=${(event) => set("top_k", event.target.value)} /></label>
    </div>
    <p><button id="search" class="main" disabled=${!query}>${t("tab.search")}</button></p>
    <${RequestCode} request=${query && searchRequest(query, optionsOf(form.value))} />
  </form>`;
}

function QueryFields() {
  const { mode, text, video_id, start_seconds, end_seconds } = form.value;
  if (mode === "text") {
    return html`<label for="query">${t("search.text")}</label>
      <input id="query" type="search" dir="auto" placeholder=${t("search.placeholder")} value=${text} onInput=${(event) => set("text", event.target.value)} />`;
  }
  if (mode === "clip") {
    return html`<label for="query-clip">${t("search.clip")}</label>
      <input id="query-clip" type="file" accept=${ACCEPTED} onChange=${(event) => set("file", event.target.files[0] ?? null)} />`;
  }
  return html`<label for="query-video">${t("search.video")}</label>
    <select id="query-video" value=${video_id} onChange=${(event) => set("video_id", event.target.value)}>
      <option value="">${t("search.video.none")}</option>
      ${(videos.value ?? []).map((video) => html`<option key=${video.video_id} value=${video.video_id}>${nameOf(video.video_id)} · ${clock(video.source.duration_seconds)}</option>`)}
    </select>
    <div class="options even">
      <label>${t("search.start")} <input id="query-start" type="number" min="0" step="any" value=${start_seconds} onInput=${(event) => set("start_seconds", event.target.value)} /></label>
      <label>${t("search.end")} <input id="query-end" type="number" min="0" step="any" value=${end_seconds} onInput=${(event) => set("end_seconds", event.target.value)} /></label>
    </div>`;
}

function Found({ found }) {
  const text = t("search.count", { count: found.results.length, windows: found.num_windows, total: number(found.timing_ms.total, 0) });
  return html`
    <p id="timing" class="hint" role="status">${text}${found.num_stale ? t("search.stale", { count: found.num_stale }) : ""}</p>
    ${found.scored_by_cosine ? null : html`<p class="hint">${t("search.not-cosine")}</p>`}
    <${Playing} />
    <ol class="hits" id="hits">${found.results.map((hit) => html`<${Hit} key=${`${hit.video_id}-${hit.start_seconds}`} hit=${hit} />`)}</ol>`;
}

function Hit({ hit }) {
  const { video_id, start_seconds: start, end_seconds: end, cosine } = hit;
  const range = `${clock(start)} – ${clock(end)}`;
  const isPlayable = files.value.has(video_id);
  const choose = (event) => {
    attach(video_id, event.target.files[0]);
    playing.value = hit;
  };
  return html`<li class="result hit">
    <div class="fill" style=${{ width: `${Math.max(0, Math.min(1, cosine)) * 100}%` }}></div>
    <div class="row">
      <span><span class="name" dir="auto">${nameOf(video_id)}</span> <span class="number">${range}</span></span>
      <span class="score">${cosine.toFixed(4)}</span>
    </div>
    <div class="row">
      ${isPlayable
        ? html`<button type="button" class="quiet" aria-label=${t("play-from", { time: clock(start), label: nameOf(video_id) })} onClick=${() => (playing.value = hit)}>▶ ${t("play")}</button>`
        : html`<label class="filelink">${t("search.attach")}<input type="file" accept=${ACCEPTED} aria-label=${t("search.attach-named", { name: nameOf(video_id) })} onChange=${choose} /></label>`}
    </div>
  </li>`;
}

// Plays the window that was found, from its start to its end.
function Playing() {
  const hit = playing.value;
  const file = hit && files.value.get(hit.video_id);
  const [url, setUrl] = useState(null);
  useEffect(() => {
    if (!file) return setUrl(null);
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  if (!file || !url) return null;
  const address = `${url}#t=${hit.start_seconds},${hit.end_seconds}`;
  return html`<video id="found-video" key=${address} src=${address} controls muted autoplay playsinline aria-label=${nameOf(hit.video_id)}></video>`;
}

function Store() {
  const [tags, setTags] = useState("");
  const [days, setDays] = useState("30");
  const [problem, setProblem] = useState(null);
  const take = (event) => {
    const chosen = [...event.target.files];
    event.target.value = "";
    try {
      storeVideos(chosen, { tags: parseDocument(tags), days: Number(days) });
      setProblem(null);
    } catch (error) {
      setProblem(problemOf(error));
    }
  };
  const { value: busy } = storing;
  return html`
    <details open=${videos.value?.length === 0}>
      <summary>${t("library.store")}</summary>
      <p class="hint">${t("library.hint")}</p>
      <div class="options even">
        <label>${t("library.tags")} <input id="store-tags" dir="auto" value=${tags} onInput=${(event) => setTags(event.target.value)} /></label>
        <label>${t("library.days")} <input id="store-days" type="number" min="0" max="3660" step="any" value=${days} onInput=${(event) => setDays(event.target.value)} /></label>
      </div>
      <label for="store-files">${t("library.files")}</label>
      <input id="store-files" type="file" accept=${ACCEPTED} multiple disabled=${Boolean(busy)} onChange=${take} />
    </details>
    ${busy && html`<${Progress} share=${busy.share} done=${busy.done} cancel=${stopStoring} working=${t("library.storing", busy)} />`}
    <${Problem} problem=${problem ?? storeProblem.value} />`;
}

function Library() {
  if (!videos.value) return null;
  if (!videos.value.length) return html`<p class="hint">${t("library.empty")}</p>`;
  return html`<ul class="cards" id="library">${videos.value.map((video) => html`<${Stored} key=${video.video_id} video=${video} />`)}</ul>
    ${hasMore.value && html`<p class="hint">${t("library.more", { count: videos.value.length })}</p>`}`;
}

function Stored({ video }) {
  const [problem, setProblem] = useState(null);
  const { video_id, kind, stale, num_windows, num_bytes, source, tags, model, expires_at } = video;
  const erase = () => deleteVideo(video_id).catch((error) => setProblem(problemOf(error)));
  const show = () => {
    takeStored(video_id);
    go("timeline");
  };
  return html`<li class="card">
    <strong class="name" dir="auto">${nameOf(video_id)}</strong>
    <span class="hint">${clock(source.duration_seconds)} · ${t(`library.kind.${kind}`, { count: num_windows })} · ${bytes(num_bytes)} · ${model}
      ${expires_at && html` · ${t("library.expires", { time: moment(expires_at) })}`}</span>
    <span>${stale && html`<span class="tag bad">${t("library.stale")}</span> `}${tags.map((tag) => html`<span key=${tag} class="tag" dir="auto">${tag}</span> `)}</span>
    <span class="beside">
      ${kind === "windows" && !stale && html`<a href=${addressOf("timeline")} onClick=${show} aria-label=${t("library.timeline-of", { name: nameOf(video_id) })}>${t("tab.timeline")}</a>`}
      <button type="button" class="danger" aria-label=${t("library.delete-named", { name: nameOf(video_id) })} onClick=${erase}>${t("delete")}</button>
    </span>
    <${Problem} problem=${problem} />
  </li>`;
}
