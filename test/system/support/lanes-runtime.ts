// Lanes runtime: the production app in a process of its own, with as many http channels as a test has outside services, each
// delivering to an account of its own. SIGTERM ends it with a drain, exit 0.

import { join } from "node:path";
import type { AccountOptions, RetryBudget } from "../../../src/channels/channel.ts";
import type { ConfigOptions } from "../../../src/config.ts";
import type { App, AppChannel, createApp, httpChannel } from "../../../src/index.ts";
import { PROJECT_ROOT } from "./arena.ts";
import foldBot from "./fold-bot.ts";
import { configOfHelper } from "./helper-process.ts";
import lanesBot from "./lanes-bot.ts";
import type { RuntimeOptions } from "./runtime-process.ts";

export interface LanesConfig {
  readonly port: number;
  readonly dataDir: string;
  readonly redis?: string;
  readonly channels: readonly OutboundChannel[];
  /** Any other option of the app, by name. */
  readonly options?: Readonly<Record<string, unknown>>;
}

export interface OutboundChannel {
  readonly name: string;
  readonly deliverTo: string;
  /** For one attempt. */
  readonly timeoutMs: number;
  readonly account?: AccountOptions;
  readonly retry?: RetryBudget;
}

/** What a `RuntimeProcess` is given to run it. */
export function lanesRuntime(config: LanesConfig): RuntimeOptions {
  const program = [join(PROJECT_ROOT, "test/system/support/lanes-runtime.mjs"), JSON.stringify(config)];
  return { port: config.port, data: config.dataDir, program };
}

/** Of the built runtime, which lanes-runtime.mjs loads natively. */
export interface BuiltRuntime {
  readonly createApp: typeof createApp;
  readonly httpChannel: typeof httpChannel;
}

export async function runLanes(runtime: BuiltRuntime): Promise<void> {
  const { port, dataDir, redis, channels, options = {} } = configOfHelper<LanesConfig>();
  const app: App = runtime.createApp({
    ...(options as ConfigOptions),
    bots: [foldBot, lanesBot],
    channels: channels.map((channel) => outbound(runtime, channel)),
    port,
    dataDir,
    ...(redis !== undefined && { redis }),
  });
  process.once("SIGTERM", () => void app.stop().then(() => process.exit(0)));
  void app.crashed.then((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  });
  await app.start();
}

/** An http channel under another name: its messages are its own. */
function outbound({ httpChannel }: BuiltRuntime, channel: OutboundChannel): AppChannel {
  const { name, deliverTo, timeoutMs, account, retry } = channel;
  const http = httpChannel({ deliverTo, timeoutMs });
  return {
    ...http,
    name,
    ...(account && { account }),
    ...(retry && { retry }),
    parse(raw, bot, bounds) {
      const result = http.parse(raw, bot, bounds);
      if (result.kind === "problem") return result;
      const messages = result.messages.map((message) => ({ ...message, to: { ...message.to, channel: name } }));
      return { kind: "ok", messages };
    },
  };
}
