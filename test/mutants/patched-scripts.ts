// Patched scripts: the store on Redis with one script that is not the shipped one. The runtime asks for its scripts by their hash;
// the connection given to it here asks for others instead. Nothing in the runtime knows of it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { systemEnvironment } from "../../src/environment.ts";
import { RedisConnection } from "../../src/store/redis-connection.ts";
import { RedisShardStore } from "../../src/store/redis-shard-store.ts";
import { Scripts } from "../../src/store/scripts.ts";

export type ScriptName = "acquire" | "append" | "commit" | "move-timers" | "open-namespace" | "release" | "renew";

/** In the text of a script; `from` stands there exactly once. */
export interface Patch {
  readonly script: ScriptName;
  readonly from: string;
  readonly to: string;
}

const TIMEOUT_MS = 20_000;
const NO_PATCH: Patch = { script: "commit", from: "", to: "" };
const sha = (text: string): string => createHash("sha1").update(text).digest("hex");

function shipped(script: ScriptName): string {
  return readFileSync(new URL(`../../src/store/lua/${script}.lua`, import.meta.url), "utf8");
}

/** @throws Error if the script has changed, so that the patch no longer fits */
export function patched({ script, from, to }: Patch): string {
  const text = shipped(script);
  const places = text.split(from).length - 1;
  if (places !== 1)
    throw new Error(`${script}.lua has ${JSON.stringify(from)} ${places} times, not once: renew the patch`);
  return text.replace(from, () => to);
}

/** Same way to Redis, another script at the end of it. Both hashes have 40 digits, so a request stays as long as it was. */
class PatchedConnection extends RedisConnection {
  readonly #asked: Buffer;
  readonly #given: Buffer;
  readonly #text: { readonly shipped: string; readonly patched: string };

  constructor(path: string, patch: Patch | null) {
    super({
      environment: systemEnvironment,
      target: { path },
      commandTimeoutMs: TIMEOUT_MS,
      name: "patched",
      onReadyChange: () => undefined,
    });
    const { script } = patch ?? NO_PATCH;
    this.#text = { shipped: shipped(script), patched: patch === null ? shipped(script) : patched(patch) };
    this.#asked = Buffer.from(sha(this.#text.shipped));
    this.#given = Buffer.from(sha(this.#text.patched));
  }

  override sendRequest(name: string, request: Buffer): Promise<unknown> {
    const at = request.indexOf(this.#asked);
    if (at < 0) return super.sendRequest(name, request);
    const other = Buffer.from(request);
    this.#given.copy(other, at);
    return super.sendRequest(name, other);
  }

  override send(...[name, args, during, timeoutMs]: Parameters<RedisConnection["send"]>): Promise<unknown> {
    const isLoad = name === "script" && args[1] === this.#text.shipped;
    return super.send(name, isLoad ? ["load", this.#text.patched] : args, during, timeoutMs);
  }
}

/** Shards of the namespace at the socket, by way of one script that is another. Null: all are as they are shipped. */
export class PatchedStore {
  readonly connection: RedisConnection;
  readonly scripts: Scripts = new Scripts();
  readonly #ns: string;

  constructor(path: string, ns: string, patch: Patch | null) {
    this.#ns = ns;
    this.connection = new PatchedConnection(path, patch);
  }

  shard(shard: number): RedisShardStore {
    const { connection, scripts } = this;
    const same = (): RedisConnection => connection;
    return new RedisShardStore({
      ns: this.#ns,
      shard,
      scripts,
      connections: { append: same, query: same, lease: same, open: same, shut: () => undefined },
      commandTimeoutMs: TIMEOUT_MS,
      onClose: () => undefined,
    });
  }

  close(): void {
    this.connection.close();
  }
}
