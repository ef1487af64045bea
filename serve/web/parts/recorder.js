// Records a clip with the camera of the device.
import { t } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../lib.js";
import { Problem } from "./problem.js";

const MAX_SECONDS = 60;
const TYPES = ["video/webm;codecs=vp9", "video/webm", "video/mp4"];

export function Recorder({ take }) {
  const [stream, setStream] = useState(null);
  const [problem, setProblem] = useState(null);
  const start = async () => {
    setProblem(null);
    try {
      setStream(await navigator.mediaDevices.getUserMedia({ video: true }));
    } catch (error) {
      setProblem({ title: t("record.refused"), detail: `${error.message ?? error}` });
    }
  };
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) return null; // no camera without a secure context
  return html`
    ${!stream && html`<button id="record" type="button" class="quiet" onClick=${start}>${t("record")}</button>`}
    ${stream && html`<${Recording} stream=${stream} take=${take} close=${() => setStream(null)} />`}
    <${Problem} problem=${problem} />`;
}

function Recording({ stream, take, close }) {
  const preview = useRef(null);
  const recorder = useRef(null);
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    preview.current.srcObject = stream;
    recorder.current = record(stream, (file) => {
      close();
      take(file);
    });
    const timer = setInterval(() => setSeconds((before) => before + 1), 1000);
    const limit = setTimeout(() => finish(recorder.current), MAX_SECONDS * 1000);
    return () => {
      clearInterval(timer);
      clearTimeout(limit);
      for (const track of stream.getTracks()) track.stop();
    };
  }, []);
  const discard = () => {
    recorder.current.onstop = null;
    close();
  };
  return html`<div class="recording" role="group" aria-label=${t("record")}>
    <video ref=${preview} autoplay muted playsinline aria-label=${t("record.preview")}></video>
    <div class="beside">
      <button id="record-stop" type="button" class="main" onClick=${() => finish(recorder.current)}>${t("record.stop")}</button>
      <button type="button" class="quiet" onClick=${discard}>${t("cancel")}</button>
      <span class="hint" role="timer">${t("record.seconds", { seconds, limit: MAX_SECONDS })}</span>
    </div>
  </div>`;
}

function record(stream, done) {
  const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
  const recorder = new MediaRecorder(stream, { mimeType });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    const type = (recorder.mimeType || mimeType).split(";")[0];
    done(new File(parts, `recording.${type.endsWith("mp4") ? "mp4" : "webm"}`, { type }));
  };
  recorder.start();
  return recorder;
}

function finish(recorder) {
  if (recorder?.state === "recording") recorder.stop();
}
