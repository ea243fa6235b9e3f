// Actor as a child: what a supervisor starts, stops and hears the end of, made of an actor.

import type { ActorBehaviour, ActorFamily, ActorRef, SpawnOptions } from "../actors/actor-system.ts";
import type { ChildLink, RunningChild } from "./child-spec.ts";
import { failedWith } from "./exit-reason.ts";

export class ActorChild<Message> implements RunningChild {
  readonly ref: ActorRef<Message>;

  constructor(ref: ActorRef<Message>) {
    this.ref = ref;
  }

  /** Takes nothing more in, and resolves when what it had taken was received. */
  stop(): Promise<void> | undefined {
    return this.ref.drain();
  }

  kill(): void {
    this.ref.stop();
  }

  mailboxDepth(): number {
    return this.ref.mailboxDepth;
  }
}

/** Starts an actor whose own end is told to its supervisor. Give each incarnation a behaviour of its own. */
export function startActor<Message>(
  actors: ActorFamily,
  link: ChildLink,
  behaviour: ActorBehaviour<Message>,
  options: Omit<SpawnOptions, "onExit">,
): ActorChild<Message> {
  const onExit = (error: unknown): void => link.exited(failedWith(error));
  return new ActorChild(actors.spawn(behaviour, { ...options, onExit }));
}
