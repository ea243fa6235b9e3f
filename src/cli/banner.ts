// Banner: what a person sees when the runtime is up: where it is, what to try, and what it does not promise.

import type { AppInfo } from "../app-types.ts";
import { withoutPassword } from "../config.ts";

export interface BannerOptions {
  readonly version: string;
  readonly info: AppInfo;
  readonly bots: readonly { readonly name: string }[];
  readonly deliverTo: string | undefined;
  /** The chat page is at `/`. */
  readonly hasPage: boolean;
  /** Webhooks need a signature. */
  readonly isSigned: boolean;
  /** The command that starts it again. */
  readonly again: string;
  readonly isColored: boolean;
}

const WEAKER = {
  everysec: "a crash of Redis or its machine can lose the last seconds of what was answered 2xx",
  none: "a crash of Redis or its machine can lose minutes of what was answered 2xx",
  assumed: "Redis was not asked; nothing is lost only if it runs with appendonly yes, appendfsync always, noeviction",
} as const;

const CONTINUED = " \\\n                ";

/** Plain text, each line ended. */
export function banner(options: BannerOptions): string {
  const { version, info, bots, deliverTo, hasPage, isSigned, again, isColored } = options;
  const bot = bots[0]?.name ?? "bot";
  const webhook = `${info.url}/channels/http/${bot}`;
  const body = '{"conversation":"c1","id":"m1","text":"hello"}';
  const rows: [label: string, text: string][] = [
    ["bots", bots.map(({ name }) => name).join(", ")],
    ["send", `curl -X POST ${webhook} -H 'content-type: application/json'${CONTINUED}-d '${body}'`],
    [
      "replies",
      deliverTo === undefined ? `curl '${webhook}/c1/replies?after=0'` : `posted to ${withoutPassword(deliverTo)}`,
    ],
    ["ready", `${info.url}/readyz`],
    ["redis", redisText(info)],
    ["crash it", `kill -9 ${info.pid}; ${again}`],
  ];
  if (isSigned) rows.splice(2, 0, ["", "signed with the secret of COLLOQUY_HTTP_SECRET in X-Colloquy-Signature"]);
  if (hasPage) rows.splice(1, 0, ["chat", `${info.url}/`]);
  const title = `colloquy ${version}: ${info.url}, pid ${info.pid}, node ${info.node}, ${shardsText(info)}, durability ${info.durability}`;
  const lines = ["", title, ...rows.map(([label, text]) => `  ${label.padEnd(10)}${text}`)];
  if (!info.ready) lines.push(warning("Redis is not there yet: webhooks answer 503 until it is", isColored));
  if (info.durability !== "always") {
    lines.push(warning(`durability ${info.durability}: ${WEAKER[info.durability]}`, isColored));
  }
  return `${lines.join("\n")}\n\n`;
}

const shardsText = ({ shards }: AppInfo): string => `${shards} ${shards === 1 ? "shard" : "shards"}`;

function redisText({ redis }: AppInfo): string {
  const pid = redis.pid === undefined ? "" : `, pid ${redis.pid}`;
  return `${redis.embedded ? "embedded, " : ""}${withoutPassword(redis.address)}${pid}`;
}

function warning(text: string, isColored: boolean): string {
  return isColored ? `  \u001b[31mWARNING   ${text}\u001b[39m` : `  WARNING   ${text}`;
}
