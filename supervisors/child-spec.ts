// Child specification: what a supervisor knows of a child. The words are those of Erlang's `supervisor`.

export interface ChildSpec {
  /** Unique below its supervisor; part of log lines and of the tree that operators see. */
  readonly id: string;
  /** Resolves when the child does its work; the next sibling starts only then. */
  start(): void | Promise<void>;
  /** Ends the child in good order, when what it returns resolves: finishes what it accepted. Never called before `start`, and once per start. */
  stop(): unknown;
  /** How long `stop` may take, ms. After it the supervisor goes on without waiting. */
  readonly shutdownMs: number;
}
