// Start command: one bot file, one app, until a signal or a crash.

import type { App, AppOptions } from "../app-types.ts";
import { type HttpChannelOptions, httpChannel } from "../channels/http-channel.ts";
import { webChannel } from "../channels/web-channel.ts";
import { type Config, type ConfigFlags, type HttpKey, resolveConfig, withoutPassword } from "../config.ts";
import type { BotDefinition } from "../domain/bot.ts";
import { banner } from "./banner.ts";
import { EXIT, type ExitCode, exitCodeOf, failureText } from "./exit.ts";
import type { Lifecycle, Live } from "./lifecycle.ts";
import { loadBots } from "./load-bot.ts";
import { packageVersion } from "./package-version.ts";
import { shellWord } from "./shell-word.ts";
import type { Terminal } from "./terminal.ts";

/** What the command starts; main gives the real ones. */
export interface StartParts {
  createApp(options: AppOptions): App;
  readonly live: Live;
}

/**
 * @param file the bot's file, as typed
 * @returns the exit code, once the app has crashed; ended by a signal, the process exits before this returns
 * @throws whatever kept it from starting
 */
export async function start(
  file: string,
  flags: ConfigFlags,
  terminal: Terminal,
  { createApp, live }: StartParts,
): Promise<ExitCode> {
  const config = resolveConfig({}, terminal.environment, flags);
  const bots = await loadBots(file);
  const app = createApp(appOptions(config, bots));
  const isDebug = config.logLevel === "debug";
  const lifecycle = live({
    stop: () => app.stop(),
    drainMs: config.drainMs,
    say: (line) => terminal.stderr.write(`colloquy: ${line}\n`),
    tell: (error) => terminal.stderr.write(failureText(error, { isDebug, isRunning: true })),
  });
  await started(app, lifecycle, (info) =>
    terminal.stderr.write(
      banner({
        version: packageVersion(),
        info,
        bots,
        deliverTo: config.deliverTo,
        hasPage: hasWebChannel(config),
        isSigned: config.httpSecret !== undefined,
        again: commandAgain(terminal),
        isColored: terminal.stderr.isTTY === true && !terminal.environment.NO_COLOR,
      }),
    ),
  );
  const crash = await app.crashed;
  if (lifecycle.isEnding) await ended();
  lifecycle.release();
  terminal.stderr.write(failureText(crash, { isDebug, isRunning: true }));
  const code = exitCodeOf(crash);
  return code === EXIT.usage ? EXIT.failed : code; // what started once was no wrong usage
}

/** Whoever asks for signed messages does not want a second door that takes them unsigned. */
const hasWebChannel = ({ httpSecret }: Config): boolean => httpSecret === undefined;

function appOptions(config: Config, bots: readonly BotDefinition[]): AppOptions {
  const {
    deliverTo,
    deliveryTimeoutMs,
    deliveryConcurrency,
    deliveryRatePerSecond,
    deliveryBurst,
    deliveryBreakerFailures,
    deliveryBreakerOpenMs,
    deliveryBreakerOpenMsMax,
    order,
    gapTimeoutMs,
    settleMs,
    maxHeld,
    firstSequence,
    httpSecret,
    ...rest
  } = config;
  const http = httpChannel({
    deliverTo,
    timeoutMs: deliveryTimeoutMs,
    connections: deliveryConcurrency,
    account: accountOptions(config),
    order,
    gapTimeoutMs,
    settleMs,
    maxHeld,
    firstSequence,
    secret: httpSecret,
  });
  return { ...rest, bots, channels: hasWebChannel(config) ? [http, webChannel()] : [http] };
}

/** Undefined if nothing of it is set. */
function accountOptions(config: Pick<Config, HttpKey>): HttpChannelOptions["account"] {
  const { deliveryBreakerFailures: failures } = config;
  const options = {
    ratePerSecond: config.deliveryRatePerSecond,
    burst: config.deliveryBurst,
    breakerFailures: failures === 0 ? Number.POSITIVE_INFINITY : failures,
    breakerOpenMs: config.deliveryBreakerOpenMs,
    breakerOpenMsMax: config.deliveryBreakerOpenMsMax,
  };
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : Object.fromEntries(given);
}

/** A start that fails because a signal stops it is no failure; one that fails by itself leaves nothing running. */
async function started(
  app: App,
  lifecycle: Lifecycle,
  show: (info: Awaited<ReturnType<App["start"]>>) => void,
): Promise<void> {
  try {
    const info = await app.start();
    if (!lifecycle.isEnding) show(info);
  } catch (error) {
    if (lifecycle.isEnding) await ended();
    lifecycle.release();
    await app.stop().catch(() => {}); // the error that counts is the first
    throw error;
  }
}

/** Never resolves: the lifecycle exits the process. */
const ended = (): Promise<never> => new Promise(() => {});

/** How it was started, to be typed again, passwords left out. npm's script names the command and the bot itself. */
function commandAgain({ argv, environment }: Terminal): string {
  if (environment.npm_lifecycle_event !== "start") return `colloquy ${argv.map(typed).join(" ")}`;
  const [, , ...added] = argv;
  return added.length === 0 ? "npm start" : `npm start -- ${added.map(typed).join(" ")}`;
}

const typed = (word: string): string => shellWord(word.includes("://") ? withoutPassword(word) : word);
