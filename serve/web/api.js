// Requests to the server this page came from; problems (RFC 9457) become ProblemError.

export class ProblemError extends Error {
  constructor(problem, retryAfter) {
    super(problem.detail ?? problem.title);
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

export async function getJson(path) {
  const response = await fetch(path);
  const body = await response.json();
  if (!response.ok) throw new ProblemError(body, Number(response.headers.get("retry-after")));
  return body;
}

// XMLHttpRequest, since fetch does not tell how much of an upload has gone.
export function classify(file, options, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("options", JSON.stringify(options));
    form.append("video", file);
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/classify");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => onProgress(event.total ? event.loaded / event.total : 0));
    request.addEventListener("load", () => {
      if (request.status === 200) resolve(request.response);
      else reject(new ProblemError(request.response ?? { title: `Status ${request.status}`, detail: request.statusText }, Number(request.getResponseHeader("retry-after"))));
    });
    request.addEventListener("error", () => reject(new Error("The connection was lost; is the server running, and the file still there?")));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
