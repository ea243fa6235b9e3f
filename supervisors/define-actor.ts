// Define actor: a user's own actor as a child of the tree (`createApp({ children })`), and the address under which the rest of the
// program reaches it, whichever incarnation runs.

import { type ActorBehaviour, ActorSystem, AskError } from "../actors/actor-system.ts";
import { systemEnvironment } from "../src/environment.ts";
import { type ActorChild, startActor } from "./actor-child.ts";
import type { ChildLink, ChildSpec } from "./child-spec.ts";

export interface ActorDefinition<Message> extends Omit<ChildSpec, "start" | "type"> {
  /**
   * Makes the actor, anew at each start: what an incarnation knew is gone with it. A rejection is a failed start.
   * `receive` handles one message at a time; what it throws ends the incarnation, and the supervisor decides.
   */
  readonly start: () => ActorBehaviour<Message> | Promise<ActorBehaviour<Message>>;
  /** Messages that may wait; default 1,024. */
  readonly mailboxMax?: number;
  /** How long `receive` may take, ms; default for ever. Its signal aborts then, and the incarnation ends. */
  readonly receiveTimeoutMs?: number;
}

export interface Actor<Message> extends ChildSpec {
  /** False if the mailbox is full or no incarnation runs: then the message went nowhere. */
  tell(message: Message): boolean;
  /**
   * Tells a message made around a way to answer, and waits for the answer.
   * @throws AskError if no incarnation runs, its mailbox is full, or it does not answer within `timeoutMs`
   */
  ask<Answer>(makeMessage: (answer: (value: Answer) => void) => Message, timeoutMs: number): Promise<Answer>;
}

const MAILBOX_MAX = 1_024;

export function defineActor<Message>(definition: ActorDefinition<Message>): Actor<Message> {
  const { start, mailboxMax = MAILBOX_MAX, receiveTimeoutMs, ...traits } = definition;
  let running: ActorChild<Message> | null = null;
  let starts = 0;
  return {
    ...traits,
    async start(link) {
      starts += 1;
      const incarnation = starts;
      const behaviour = await start();
      const system = new ActorSystem({ after: systemEnvironment.after, onCrash: () => undefined });
      const end = (): void => {
        if (incarnation === starts) running = null;
        system.stop();
      };
      const exited: ChildLink["exited"] = (reason) => {
        end();
        link.exited(reason);
      };
      const child = startActor(system.family(definition.id), { exited }, behaviour, {
        mailboxMax,
        ...(receiveTimeoutMs !== undefined && { receiveTimeoutMs }),
      });
      if (incarnation === starts) running = child; // else its start came too late, and another one has the address
      return {
        stop: async () => {
          await child.stop();
          end();
        },
        kill: end,
        mailboxDepth: () => child.mailboxDepth(),
      };
    },
    tell: (message) => running?.ref.tell(message) ?? false,
    ask(makeMessage, timeoutMs) {
      if (running === null) return Promise.reject(new AskError(`${definition.id} does not run`));
      return running.ref.ask(makeMessage, timeoutMs);
    },
  };
}
