// Requests to the server of this page; problems (RFC 9457) are thrown as ProblemError.

import { t } from "./i18n.js";
import { askForKey, keyHeader } from "./key.js";
import { saveFile } from "./save.js";

export class ProblemError extends Error {
  constructor(problem, retryAfter) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

// Converts any error to a problem; `isPassing` means that a retry may succeed.
export function problemOf(error) {
  if (error.problem) return { ...error.problem, isPassing: error.problem.status >= 500 };
  return { title: t("problem.unreachable"), detail: String(error.message ?? error), isPassing: true };
}

export function getJson(path) {
  return send("GET", path);
}

// Returns the response and its ETag, which is null if it has none.
export async function getTagged(path) {
  const response = await fetchWithKey(path, { cache: "no-store" });
  if (!response.ok) throw await problemFrom(response);
  return { body: await response.json(), tag: response.headers.get("etag") };
}

export async function postJson(path, body, { headers = {}, signal } = {}) {
  const options = { method: "POST", headers: { "Content-Type": "application/json", ...headers }, signal };
  const response = await fetchWithKey(path, { ...options, body: JSON.stringify(body) });
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) throw errorOf(response, answer);
  return { ...answer, request_id: response.headers.get("x-request-id") };
}

// Deletes without waiting for the response, also while the page is closed.
export function sendOff(path) {
  fetch(path, { method: "DELETE", headers: keyHeader(), keepalive: true }).catch(() => {});
}

// Returns the objects of a response with one JSON object per line.
export async function getLines(path) {
  const response = await fetchWithKey(path, { cache: "no-store" });
  if (!response.ok) throw await problemFrom(response);
  return (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

// Opens a stream of server-sent events; the body is read by the caller.
export function openStream(path, { headers, signal }) {
  return fetchWithKey(path, { headers: { Accept: "text/event-stream", ...headers }, cache: "no-store", signal });
}

// `no-store`: while a change is encoded, the response has the previous version with the ETag of the newer one.
export async function send(method, path, { headers = {}, body } = {}) {
  const response = await fetchWithKey(path, { method, headers, body, cache: "no-store" });
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw errorOf(response, answer);
}

// Saves a file of the server; a plain link would not carry the key.
export async function download(path, name) {
  const response = await fetchWithKey(path, {});
  if (!response.ok) throw await problemFrom(response);
  saveFile(await response.blob(), name);
}

// Asks for a key and repeats the request as long as the server requires one.
async function fetchWithKey(path, { headers = {}, ...options }) {
  const response = await fetch(path, { ...options, headers: { ...headers, ...keyHeader() } });
  if (response.status !== 401) return response;
  const problem = await response.clone().json().catch(() => ({}));
  return (await askForKey(problem.detail ?? "")) ? fetchWithKey(path, { headers, ...options }) : response;
}

// Uploads a video with options to a route that takes such forms.
export function uploadVideo(path, file, options, { headers, signal, onProgress }) {
  const form = new FormData();
  form.append("options", JSON.stringify(options));
  form.append("video", file);
  return upload(path, form, { headers, signal, onProgress });
}

// Uses XMLHttpRequest, because fetch does not report upload progress. Returns the response and the request id.
export function upload(path, form, { headers = {}, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries({ ...headers, ...keyHeader() })) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => onProgress?.(event.total ? event.loaded / event.total : 0));
    request.addEventListener("load", async () => {
      const { status, statusText, response } = request;
      if (status === 401 && (await askForKey(response?.detail ?? ""))) {
        upload(path, form, { headers, signal, onProgress }).then(resolve, reject);
        return;
      }
      const request_id = request.getResponseHeader("x-request-id");
      if (status >= 200 && status < 300 && response) resolve({ ...response, request_id });
      else reject(problemError(response, status, statusText, request.getResponseHeader("retry-after")));
    });
    request.addEventListener("error", () => reject(new Error(t("problem.lost"))));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

export async function problemFrom(response) {
  return errorOf(response, await response.json().catch(() => null));
}

function errorOf(response, answer) {
  return problemError(answer, response.status, response.statusText, response.headers.get("retry-after"));
}

function problemError(answer, status, statusText, retryAfter) {
  return new ProblemError(answer ?? { title: `Status ${status}`, detail: statusText, status }, Number(retryAfter));
}
