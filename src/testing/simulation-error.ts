/** A simulation cannot go on, or was used in a way that makes no sense; the message says what to change. */
export class SimulationError extends Error {
  override readonly name = "SimulationError";
}
