// Main thread frames: where the main thread is now, asked from another thread by the inspector, which interrupts even an endless
// loop. The main thread stands still from the moment it was found until `release`.

import { type Debugger, Session } from "node:inspector";
import { fileURLToPath } from "node:url";

export interface MainThreadFrames {
  /** Innermost first, as "name (file:line:column)"; null if the thread reached no JavaScript within the time: native code. */
  readonly frames: readonly string[] | null;
  /** Lets the thread go on, if it was held. */
  release(): void;
}

export const FRAMES_MAX = 10;
const FRAME_LENGTH_MAX = 300;

export interface SearchBounds {
  /** CPU time of the main thread so far, ms. */
  cpuMs(): number;
  /** CPU time that the main thread may use up without being found; on a machine that is short of CPU it may take longer. */
  readonly cpuWithinMs: number;
  /** The same by the clock, for a thread that waits. */
  readonly withinMs: number;
}

const LOOK_EVERY_MS = 20;

/** For worker threads only. Never rejects. */
export function findMainThread({ cpuMs, cpuWithinMs, withinMs }: SearchBounds): Promise<MainThreadFrames> {
  return new Promise((resolve) => {
    const session = new Session();
    const urls = new Map<string, string>();
    const finish = (frames: readonly string[] | null): void => {
      clearInterval(timer);
      resolve({ frames, release: () => session.disconnect() });
    };
    const cpuEndMs = cpuMs() + cpuWithinMs;
    const endMs = performance.now() + withinMs;
    const timer = setInterval(() => {
      if (cpuMs() >= cpuEndMs || performance.now() >= endMs) finish(null);
    }, LOOK_EVERY_MS);
    session.on("Debugger.scriptParsed", ({ params }) => urls.set(params.scriptId, params.url));
    session.once("Debugger.paused", ({ params }) => finish(textsOf(params.callFrames, urls)));
    session.connectToMainThread();
    session.post("Debugger.enable");
    session.post("Debugger.pause");
  });
}

function textsOf(frames: readonly Debugger.CallFrame[], urls: ReadonlyMap<string, string>): string[] {
  return frames
    .slice(0, FRAMES_MAX)
    .map(({ functionName, location }) =>
      frameText(functionName, urls.get(location.scriptId) ?? "", location.lineNumber, location.columnNumber ?? 0),
    );
}

/** @param line, column from 0, as the inspector counts; the text counts from 1, as editors do */
export function frameText(name: string, url: string, line: number, column: number): string {
  const text = `${name || "(anonymous)"} (${fileOf(url)}:${line + 1}:${column + 1})`;
  return text.length > FRAME_LENGTH_MAX ? `...${text.slice(-FRAME_LENGTH_MAX)}` : text;
}

function fileOf(url: string): string {
  if (url === "") return "(no file)";
  try {
    return url.startsWith("file:") ? fileURLToPath(url) : url;
  } catch {
    return url;
  }
}
