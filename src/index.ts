// Public API: what a bot's author and an embedding program may rely on; nothing else.

export { type ActorBehaviour, AskError } from "../actors/actor-system.ts";
export type { ChildLink, ChildSpec, RunningChild, Started } from "../supervisors/child-spec.ts";
export { type Actor, type ActorDefinition, defineActor } from "../supervisors/define-actor.ts";
export type { ExitReason } from "../supervisors/exit-reason.ts";
export { createApp } from "./app.ts";
export type { AnyBot, App, AppChannel, AppInfo, AppOptions } from "./app-types.ts";
export {
  type AccountOptions,
  type Admit,
  type AdmitOutcome,
  type Channel,
  PARTS_MAX,
  type ParseResult,
  type ProbeOutcome,
  type RetryBudget,
  type SendOutcome,
  type WebhookChannel,
  type WebhookHeaders,
} from "./channels/channel.ts";
export { type HttpChannelOptions, httpChannel } from "./channels/http-channel.ts";
export type { OrderMode, OrderOptions } from "./channels/order-options.ts";
export { type WebChannelOptions, webChannel } from "./channels/web-channel.ts";
export { ConfigProblemsError } from "./config-problems.ts";
export {
  type BotDefinition,
  type DeliveryFailedNotice,
  type Duration,
  defineBot,
  type GapNotice,
  type Handled,
  type Message,
  type PoisonedNotice,
  type ReplyFields,
  type ReplyInput,
  type StepOptions,
  type TurnContext,
  type TurnLog,
} from "./domain/bot.ts";
export type { ExternalOrder } from "./domain/external-order.ts";
export type { ConversationId } from "./domain/ids.ts";
export type { Delivery, Inbound, RenderInput, Reply } from "./domain/message.ts";
export type { Plain } from "./domain/plain-data.ts";
export {
  ChildSpecError,
  ChildStartError,
  ChildStartTimeoutError,
  CodecError,
  ColloquyError,
  ConfigError,
  DataFolderError,
  EmbeddedRedisError,
  type EmbeddedRedisReason,
  FloatingRejectionError,
  HandlerTimeoutError,
  NotAvailableError,
  ReceiveTimeoutError,
  StepMismatchError,
  StepTimeoutError,
  StoreCorruptError,
  StoreHangError,
  StoreNotReadyError,
  StoreUnavailableError,
  StoreUnsafeError,
  SupervisorEndedError,
  TerminalError,
  TurnEndedError,
  TurnOutputError,
} from "./errors.ts";
