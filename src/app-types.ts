// App types: what createApp takes and gives. Separate from app.ts, which imports every stage, so that the command line and
// tests can speak of an App without one.

import type { ChildSpec } from "../supervisors/child-spec.ts";
import type { Channel, WebhookChannel } from "./channels/channel.ts";
import type { Config, ConfigOptions } from "./config.ts";
import type {
  BotDefinition,
  DeliveryFailedNotice,
  GapNotice,
  Message,
  PoisonedNotice,
  TurnContext,
} from "./domain/bot.ts";

/**
 * A bot whatever its state is. `never` in the parameters is sound: the runtime hands a bot only states which that bot made,
 * and it gets to the handlers through `checkBot` alone.
 */
export interface AnyBot extends Omit<BotDefinition<never>, "initialState" | "onMessage" | "onTimer" | "onNotice"> {
  initialState(): unknown;
  onMessage(state: never, message: Message, ctx: TurnContext): unknown;
  readonly onTimer?: Readonly<Record<string, (state: never, ctx: TurnContext) => unknown>>;
  readonly onNotice?: {
    readonly gap?: (state: never, notice: GapNotice, ctx: TurnContext) => unknown;
    readonly poisoned?: (state: never, notice: PoisonedNotice, ctx: TurnContext) => unknown;
    readonly deliveryFailed?: (state: never, notice: DeliveryFailedNotice, ctx: TurnContext) => unknown;
  };
}

/** A channel; one that receives by webhook has both halves. */
export type AppChannel = Channel & Partial<WebhookChannel>;

export interface AppOptions extends ConfigOptions {
  /** At least one; names differ. */
  readonly bots: readonly AnyBot[];
  /** Default: `httpChannel()`, whose replies go to the transcript, and `webChannel()`, which has the chat page at `/`. */
  readonly channels?: readonly AppChannel[] | undefined;
  /** The user's own actors in the tree: started before any bot runs, restarted as they say, stopped after the last turn. */
  readonly children?: readonly ChildSpec[] | undefined;
}

export interface App {
  /**
   * Resolves when the port listens. Redis may still be away then: webhooks answer 503 until it is there.
   * @throws ConfigError the port cannot be had, or an option does not fit what the namespace was created with
   * @throws StoreUnsafeError, EmbeddedRedisError, DataFolderError before anything was admitted
   * @throws Error `stop` was called meanwhile, or it was started already: an app has one life
   */
  start(): Promise<AppInfo>;
  /** Drains within `drainMs` and stops everything; resolves also if it had never started. Calling it again is harmless. */
  stop(): Promise<void>;
  /** Resolves, never rejects, with why the runtime cannot go on. Stays pending in a life that ends by `stop`. */
  readonly crashed: Promise<Error>;
}

export interface AppInfo {
  /** Of the port, e.g. `http://127.0.0.1:4000`. */
  readonly url: string;
  readonly pid: number;
  /** Id of this node. */
  readonly node: string;
  readonly shards: number;
  readonly durability: Config["durability"];
  /** Whether webhooks were open when the port listened; if not, they answer 503 until Redis is there. */
  readonly ready: boolean;
  readonly redis: {
    readonly embedded: boolean;
    /** A socket's path or a URL without its password. */
    readonly address: string;
    /** Of the embedded server, once it runs. */
    readonly pid?: number | undefined;
  };
}
