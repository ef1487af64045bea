// The jobs of the caller, kept up to date: unfinished ones by their events, as far as connections allow.
import { getJson, problemOf, send, upload } from "./api.js";
import { followJob } from "./job_events.js";
import { signal } from "./lib.js";

const PAGE_SIZE = 50;
const MAX_STREAMS = 2; // a browser opens six connections to a server, and requests need some
const POLL_MS = 3000;
export const FINISHED = ["completed", "failed", "expired", "cancelled"];
export const jobs = signal(null); // null until they are read
export const nextPage = signal(null);
export const filters = signal({ status: "", kind: "" });
export const problem = signal(null);
const streams = new Map(); // job id -> AbortController
const state = { timer: 0, isShown: false };

export function setFilter(name, value) {
  filters.value = { ...filters.value, [name]: value };
  readJobs();
}

export function showJobs() {
  state.isShown = true;
  readJobs();
  return () => {
    state.isShown = false;
    clearTimeout(state.timer);
    for (const abort of streams.values()) abort.abort();
    streams.clear();
  };
}

export async function readJobs() {
  clearTimeout(state.timer);
  try {
    const page = await getJson(`v1/jobs?${query()}`);
    jobs.value = page.jobs;
    nextPage.value = page.next_page_token;
    problem.value = null;
  } catch (error) {
    problem.value = problemOf(error);
  }
  follow();
}

export async function readMoreJobs() {
  const page = await getJson(`v1/jobs?${query()}&page_token=${encodeURIComponent(nextPage.value)}`);
  jobs.value = [...jobs.value, ...page.jobs];
  nextPage.value = page.next_page_token;
}

export async function createJob({ kind, options, files }, { signal, onProgress }) {
  const form = new FormData();
  form.append("kind", kind);
  form.append("options", JSON.stringify(options));
  for (const file of files) form.append("video", file);
  const job = await upload("v1/jobs", form, { signal, onProgress });
  await readJobs();
  return job;
}

// Cancels a job that is not finished, and deletes a finished one with its results.
export async function removeJob(id) {
  await send("DELETE", `v1/jobs/${id}`);
  await readJobs();
}

function query() {
  const given = Object.entries(filters.value).filter(([, value]) => value);
  return new URLSearchParams({ page_size: PAGE_SIZE, ...Object.fromEntries(given) });
}

function follow() {
  if (!state.isShown) return;
  const unfinished = (jobs.value ?? []).filter((job) => !FINISHED.includes(job.status));
  for (const job of unfinished) if (streams.size < MAX_STREAMS && !streams.has(job.id)) open(job.id);
  if (unfinished.some((job) => !streams.has(job.id)) || problem.value) state.timer = setTimeout(readJobs, POLL_MS);
}

async function open(id) {
  const abort = new AbortController();
  streams.set(id, abort);
  try {
    await followJob(id, { signal: abort.signal, onEvent: ({ data }) => update(id, data) });
  } catch {
    // the list is read again
  }
  streams.delete(id);
  if (!abort.signal.aborted && state.isShown) readJobs();
}

function update(id, { progress, status, request_counts }) {
  const known = Object.entries({ progress, status, request_counts }).filter(([, value]) => value !== undefined);
  jobs.value = jobs.value.map((job) => (job.id === id ? { ...job, ...Object.fromEntries(known) } : job));
}
