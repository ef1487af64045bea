// Models: the versions on disk, with what is known of them; activation and rollback with progress.
import { postJson, problemOf } from "../api.js";
import { html, signal, useEffect } from "../lib.js";
import { number, t } from "../i18n.js";
import { Problem } from "../parts/problem.js";
import { RequestCode } from "../parts/request_code.js";
import { models, modelsTag, readModels } from "../server.js";
import { refresh } from "../vocabularies.js";

const POLL_MS = 500;
const RUNNING = ["loading", "encoding"];
const problem = signal(null);
const warnings = signal([]);

export function Models() {
  useEffect(() => {
    const timer = setInterval(() => isStaging() && read(), POLL_MS);
    read();
    return () => clearInterval(timer);
  }, []);
  const known = models.value;
  return html`<section aria-labelledby="models-heading">
    <h2 id="models-heading">${t("tab.models")}</h2>
    <p class="hint">${t("models.hint")}</p>
    <${Problem} id="error" problem=${problem.value} />
    <${Staging} staging=${known?.staging} />
    ${warnings.value.length > 0 && html`<p class="error" role="status" dir="auto">${warnings.value.map(({ detail }) => `${detail}.`).join(" ")}</p>`}
    <ul class="cards" id="models">${(known?.models ?? []).map((version) => html`<${Version} key=${referenceOf(version)} version=${version} known=${known} />`)}</ul>
  </section>`;
}

function isStaging() {
  return RUNNING.includes(models.peek()?.staging?.stage);
}

async function read() {
  const wasStaging = isStaging();
  try {
    await readModels();
  } catch (error) {
    problem.value = problemOf(error);
  }
  if (wasStaging && !isStaging()) refresh().catch(() => {}); // vocabularies of the new version
}

function Staging({ staging }) {
  if (!staging) return null;
  const { reference, stage, done, total, fault } = staging;
  if (stage === "failed") return html`<${Problem} problem=${{ title: t("models.failed", { reference }), detail: fault }} />`;
  if (!RUNNING.includes(stage)) return null;
  const text = t(`models.stage.${stage}`, { reference, done, total });
  return html`<div class="progress" id="staging"><progress aria-label=${text} max=${total || 1} value=${stage === "encoding" ? done : undefined}></progress>
    <span role="status">${text}</span></div>`;
}

function Version({ version, known }) {
  const reference = referenceOf(version);
  const { name, loaded, active, fault, engine, contract } = version;
  const isBusy = RUNNING.includes(known.staging?.stage);
  const previous = known.previous[name];
  const aliases = Object.entries(known.aliases).filter(([, target]) => target === name).map(([alias]) => alias);
  return html`<li class="card model" data-model=${reference}>
    <div class="row"><strong class="name">${reference}</strong>
      <span>${reference === known.default && html`<span class="tag">${t("vocabulary.default")}</span> `}
        ${aliases.filter((alias) => alias !== "default").map((alias) => html`<span key=${alias} class="tag">${alias}</span> `)}
        <span class=${`tag ${fault ? "bad" : active ? "good" : ""}`}>${t(fault ? "models.unusable" : active ? "models.active" : loaded ? "models.loaded" : "models.on-disk")}</span></span></div>
    ${fault && html`<p class="hint" dir="auto">${fault}</p>`}
    ${contract && html`<dl class="facts">${factsOf(version).map(([key, value]) => html`<dt>${t(`models.${key}`)}</dt><dd dir="auto">${value}</dd>`)}</dl>`}
    <div class="beside wrap">
      ${!active && !fault && html`<button type="button" class="main" disabled=${isBusy} aria-label=${t("models.activate-named", { reference })}
        onClick=${() => act(`v1/models/${encodeURIComponent(name)}:activate`, { version: version.version })}>${t("models.activate")}</button>`}
      ${active && previous && html`<button type="button" class="quiet" disabled=${isBusy} aria-label=${t("models.roll-back-named", { reference: `${name}@${previous}` })}
        onClick=${() => act(`v1/models/${encodeURIComponent(name)}:rollback`, {})}>${t("models.roll-back", { version: previous })}</button>`}
    </div>
    ${contract?.card && html`<details><summary>${t("models.card")}</summary><p class="hint card-text" tabindex="0" dir="auto">${contract.card}</p></details>`}
    ${engine && version.rejected_engines && Object.keys(version.rejected_engines).length > 0 && html`<details><summary>${t("models.rejected")}</summary>
      <dl>${Object.entries(version.rejected_engines).map(([other, reason]) => html`<dt>${other}</dt><dd dir="auto">${reason}</dd>`)}</dl></details>`}
    ${!fault && html`<${RequestCode} request=${{ path: `v1/models/${name}:activate`, json: { version: version.version } }} />`}
  </li>`;
}

function factsOf({ engine, contract, engine_parity: parity }) {
  const { sampling } = contract;
  const rows = [
    ["engine", engine],
    ["family", contract.family],
    ["dimensions", String(contract.embed_dim)],
    ["frames", String(sampling?.num_segments ?? sampling?.num_frames ?? "")],
    ["parity", parity && t("models.parity-value", { cosine: parity.lowest_cosine.toFixed(6), difference: number(parity.relative_difference * 100, 3) })],
  ];
  return rows.filter(([, value]) => value);
}

function referenceOf({ name, version }) {
  return `${name}@${version}`;
}

// `wait=0`: the response comes at once, and the progress is read.
async function act(path, body) {
  problem.value = null;
  try {
    const headers = { Prefer: "wait=0", ...(modelsTag.value ? { "If-Match": modelsTag.value } : {}) };
    const found = await postJson(path, body, { headers });
    warnings.value = found.warnings;
  } catch (error) {
    problem.value = problemOf(error);
  }
  await read();
  if (!isStaging()) refresh().catch(() => {});
}
