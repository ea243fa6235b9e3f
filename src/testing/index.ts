// colloquy/testing: the test kit for authors of bots. It needs no test framework and works with any.

export type { SendOutcome } from "../channels/channel.ts";
export type { StepFailure, TurnFailure } from "./handler-watch.ts";
export type { Answer, Arrival, Split } from "./recipient.ts";
export {
  type SendsOptions,
  type SimulatedDeadLetter,
  type SimulatedReply,
  type SimulatedSituation,
  type SimulatedStep,
  type SimulatedTurn,
  type SimulateOptions,
  type Simulation,
  simulate,
  type User,
  type UserMessage,
} from "./simulate.ts";
export { SimulationError } from "./simulation-error.ts";
