// Requests to the server of this page; problems (RFC 9457) are thrown as ProblemError.

import { askForKey, keyHeader } from "./key.js";

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
  return { title: "The server is not responding", detail: String(error.message ?? error), isPassing: true };
}

export function getJson(path) {
  return send("GET", path);
}

// `no-store`: while a change is encoded, the response has the previous version with the ETag of the newer one.
export async function send(method, path, { headers = {}, body } = {}) {
  const response = await fetchWithKey(path, { method, headers, body, cache: "no-store" });
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw problemError(answer, response.status, response.statusText, response.headers.get("retry-after"));
}

// Saves a file of the server; a plain link would not carry the key.
export async function download(path, name) {
  const response = await fetchWithKey(path, {});
  if (!response.ok) throw problemError(await response.json().catch(() => null), response.status, response.statusText);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Asks for a key and repeats the request as long as the server requires one.
async function fetchWithKey(path, { headers = {}, ...options }) {
  const response = await fetch(path, { ...options, headers: { ...headers, ...keyHeader() } });
  if (response.status !== 401) return response;
  const problem = await response.clone().json().catch(() => ({}));
  return (await askForKey(problem.detail ?? "")) ? fetchWithKey(path, { headers, ...options }) : response;
}

export function classify(file, options, { signal, onProgress }) {
  const form = new FormData();
  form.append("options", JSON.stringify(options));
  form.append("video", file);
  return upload("v1/classify", form, { signal, onProgress });
}

// Uses XMLHttpRequest, because fetch does not report upload progress. Returns the response and the request id.
export function upload(path, form, { headers = {}, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries({ ...headers, ...keyHeader() })) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => onProgress(event.total ? event.loaded / event.total : 0));
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
    const lost = "The connection was lost; check that the server is running and that the file still exists.";
    request.addEventListener("error", () => reject(new Error(lost)));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

function problemError(answer, status, statusText, retryAfter) {
  return new ProblemError(answer ?? { title: `Status ${status}`, detail: statusText, status }, Number(retryAfter));
}
