// Where pictures come from: files, what is pasted or dropped, a video, the camera.

import { Refused } from "./client.js";
import { plain } from "./elements.js";

export const MOST_PICTURES = 200;
export const JPEG_QUALITY = 0.92;
const VIDEO_NAME = /\.(mp4|m4v|mov|webm|mkv|avi|ogv|mpe?g|ts)$/i;

export const isVideo = file => file.type.startsWith("video/") || (!file.type.startsWith("image/") && VIDEO_NAME.test(file.name));

/** One picture: the file as it was chosen, which is sent as it is. */
export class Picture {
  /** Answers by the model and the question. */
  answers = new Map();

  constructor(file) {
    this.file = file;
    this.name = file.name || "pasted image";
  }

  /** Its pixels; null if this browser cannot show the file, although the server may read it. */
  async bitmap() {
    try { return await createImageBitmap(this.file); } catch { return null; }
  }
}

/** What a video element shows, one frame at a time: a video file or the camera. */
export class Moving {
  #video; #freed = []; #isFresh = false; #wake = () => {}; #stopped = new AbortController();

  /** @param {HTMLVideoElement} video Shows it. @param {string} name What to call its frames. */
  constructor(video, name) {
    this.#video = video;
    this.name = name;
  }

  /** Play a video file. */
  static async file(video, file) {
    const moving = new Moving(video, file.name);
    const address = URL.createObjectURL(file);
    moving.#freed.push(() => { video.removeAttribute("src"); video.load(); URL.revokeObjectURL(address); });
    video.controls = true;
    video.src = address;
    try {
      await once(video, "loadeddata", "error");
    } catch {
      moving.stop();
      throw new Refused(`This browser cannot play ${plain(file.name)}. Convert it to MP4 with H.264, or use yoloship predict.`, { status: 400 });
    }
    moving.#watch();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) await video.play().catch(() => {});
    return moving;
  }

  /** Use the camera. @param {(text: string) => void} lost Called if it goes away. */
  static async camera(video, lost) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Refused("A browser gives its camera to https and to localhost only. Open this page there.", { status: 400 });
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, height: { ideal: 720 } }, audio: false });
    } catch (error) {
      const said = { NotAllowedError: "The camera is not allowed. Allow it for this page in the browser's settings.",
        NotFoundError: "There is no camera.", NotReadableError: "Another program uses the camera. Close it there first." };
      throw new Refused(said[error.name] ?? `The camera cannot be used: ${plain(error.message)}`, { status: 400 });
    }
    const moving = new Moving(video, "camera"), [track] = stream.getVideoTracks();
    moving.#freed.push(() => { stream.getTracks().forEach(one => one.stop()); video.srcObject = null; });
    track.addEventListener("ended", () => lost("The camera is gone. Connect it, and start it again."), { signal: moving.#stopped.signal });
    video.controls = false;
    video.srcObject = stream;
    moving.#watch();
    await video.play().catch(() => {});
    return moving;
  }

  /** Wait for a frame that was not taken yet, and take it: the newest one, as a JPEG file of its full size. */
  async frame(signal) {
    while (!this.#isFresh) {
      await new Promise((done, fail) => {
        const stop = () => fail(signal.reason);
        this.#wake = () => { signal.removeEventListener("abort", stop); done(); }; // or they would pile up, one a frame
        signal.addEventListener("abort", stop, { once: true });
      });
    }
    this.#isFresh = false;
    const video = this.#video, canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const timeS = video.currentTime;
    const file = await canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
    return { name: this.name, file, bitmap: canvas.transferToImageBitmap(), timeS };
  }

  /** Take the present frame again, for a new question. */
  again() {
    this.#isFresh = this.#video.videoWidth > 0;
    this.#wake();
  }

  /** Give the file or the camera back. */
  stop() {
    this.#stopped.abort();
    for (const free of this.#freed.splice(0)) free();
  }

  #watch() {
    const video = this.#video, { signal } = this.#stopped;
    const news = () => { if (!signal.aborted) this.again(); };
    if ("requestVideoFrameCallback" in video) {
      const next = () => video.requestVideoFrameCallback(() => { if (!signal.aborted) { news(); next(); } });
      next();
    } else {
      for (const event of ["timeupdate", "playing"]) video.addEventListener(event, news, { signal });
    }
    for (const event of ["seeked", "loadeddata"]) video.addEventListener(event, news, { signal });
    if (video.readyState >= 2) news();
  }
}

function once(target, good, bad) {
  return new Promise((done, fail) => {
    target.addEventListener(good, done, { once: true });
    target.addEventListener(bad, fail, { once: true });
  });
}
