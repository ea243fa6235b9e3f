// Code subject: the supervisors of supervisors/, driven in the language of traces, on virtual time.

import { ChildStartError } from "../../../src/errors.ts";
import { silentLog } from "../../../src/log.ts";
import type { ChildLink, ChildSpec, RunningChild, Started } from "../../../supervisors/child-spec.ts";
import { type ExitReason, failedWith, KILLED, NORMAL, SHUTDOWN } from "../../../supervisors/exit-reason.ts";
import { Family, type FamilyListing, familyChild } from "../../../supervisors/family.ts";
import type { ChildCounts, VerbAnswer } from "../../../supervisors/restart-decision.ts";
import { type ChildList, Supervisor, supervisorChild } from "../../../supervisors/supervisor.ts";
import { VirtualEnvironment } from "../../support/virtual-environment.ts";
import {
  type Action,
  type ExitWord,
  normalOrder,
  type Outcome,
  type StartFailure,
  type SupNode,
  type TraceSubject,
  type Traits,
  type TreeNode,
} from "./trace.ts";

const REASONS: Readonly<Record<ExitWord, ExitReason>> = {
  normal: NORMAL,
  shutdown: SHUTDOWN,
  shutdown_term: { kind: "shutdown", term: "done" },
  error: failedWith(new Error("crash")),
  kill: KILLED,
};
const START_TIMEOUT_MS = 50;

/** What runs under an id now. */
interface Running {
  readonly node: TreeNode;
  readonly link: ChildLink;
  readonly child: RunningChild;
  /** Ends it by itself. */
  readonly exit: (reason: ExitWord) => void;
}

export class CodeSubject implements TraceSubject {
  readonly environment: VirtualEnvironment = new VirtualEnvironment(1);
  readonly #running = new Map<string, Running>();
  readonly #supervisors = new Map<string, Supervisor | Family<null>>();
  readonly #nodes = new Map<string, SupNode>();
  readonly #failing = new Map<string, { times: number; how: StartFailure }>();
  #events: string[] = [];
  #orphans: string[] | null = null;
  #periodMs = 0;
  #rootId = "";
  #isOver = true;

  async start(tree: SupNode, periodMs: number, failing: Parameters<TraceSubject["start"]>[2]): Promise<Outcome> {
    this.#periodMs = periodMs;
    this.#rootId = tree.id;
    for (const { id, times, how } of failing) this.#failing.set(id, { times, how });
    const root = this.#supervisorSpec(tree, () => {
      this.#isOver = true;
    });
    const started = Promise.resolve(root.start({ exited: () => undefined })).then(
      () => {
        this.#events.splice(this.#events.indexOf(`+${tree.id}`), 1); // its start is not an event of the trace
        this.#isOver = false;
        return "ok";
      },
      (error: unknown) => {
        this.#events.splice(this.#events.indexOf(`!${tree.id}`), 1);
        return ["failed", ...failedPath(error)].join(" ");
      },
    );
    await this.#settle();
    const answer = await started;
    return { answers: [answer], events: this.#take(), shape: answer === "ok" ? await this.#shape(tree.id) : "" };
  }

  async step(on: string, actions: readonly Action[]): Promise<Outcome> {
    const answers: (string | Promise<string>)[] = [];
    for (const action of actions) {
      if (action.kind === "wait") {
        await this.environment.pass(action.ms);
        answers.push("");
      } else answers.push(this.#act(on, action)); // all in one go: nobody handles anything meanwhile
    }
    await this.#settle();
    return {
      answers: await Promise.all(answers),
      events: this.#take(),
      shape: this.#isOver ? "over" : await this.#shape(this.#rootId),
    };
  }

  async end(): Promise<Outcome> {
    void this.#supervisors.get(this.#rootId)?.stop();
    await this.#settle();
    return { answers: [], events: this.#take(), shape: "over" };
  }

  #take(): string[] {
    const events = normalOrder(this.#events);
    this.#events = [];
    return events;
  }

  /** Until nothing is ready and no timer is left. */
  async #settle(): Promise<void> {
    await this.environment.until(() => false, 3_600_000, "settled").catch(() => undefined);
  }

  #act(on: string, action: Action): string | Promise<string> {
    const sup = this.#supervisors.get(on)!;
    switch (action.kind) {
      case "exit":
        this.#running.get(action.id)?.exit(action.reason);
        return "";
      case "fail_next":
        this.#failing.set(action.id, { times: action.times, how: action.how });
        return "";
      case "start_new":
        return (sup as Supervisor).startChild(this.#spec(action.node)).then(word);
      case "start":
        return (sup as Family<null>).startChild(action.id, null).then(word);
      case "terminate":
        return sup.terminateChild(action.id).then(word);
      case "restart":
        return sup.restartChild(action.id).then(word);
      case "delete":
        return sup.deleteChild(action.id).then(word);
      case "which":
        return (sup.whichChildren() as Promise<ChildList | FamilyListing | null>).then((list) =>
          list === null ? "noproc" : listing(sup, list),
        );
      case "count":
        return sup.countChildren().then(counts);
      case "wait":
        return "";
    }
  }

  async #shape(id: string): Promise<string> {
    const sup = this.#supervisors.get(id)!;
    const list = (await sup.whichChildren()) ?? [];
    if (sup instanceof Family) return `${id}{${listing(sup, list)}}`;
    const parts = list.map((child) =>
      typeof child.child === "number" && child.type === "supervisor" ? this.#shape(child.id) : childWord(child),
    );
    return `${id}(${(await Promise.all(parts)).join(" ")})`;
  }

  #spec(node: TreeNode): ChildSpec {
    return node.kind === "worker"
      ? {
          id: node.id,
          ...traitsOf(node),
          startTimeoutMs: START_TIMEOUT_MS,
          start: (link) => this.#startWorker(node, node.id, link),
        }
      : this.#supervisorSpec(node, () => undefined);
  }

  #supervisorSpec(node: SupNode, onEnd: () => void): ChildSpec {
    const { id, strategy, intensity, autoShutdown } = node;
    const flags = { id, intensity, periodMs: this.#periodMs, autoShutdown };
    const inner =
      strategy === "simple_one_for_one"
        ? familyChild<null>(
            {
              ...flags,
              child: {
                ...traitsOf(node.children[0]!),
                start: (link, childId) => this.#startNow({ ...node.children[0]!, id: childId }, link),
              },
            },
            this.environment,
            silentLog,
          )
        : supervisorChild(
            { ...flags, strategy, children: node.children.map((child) => this.#spec(child)) },
            this.environment,
            silentLog,
          );
    return {
      id,
      type: "supervisor",
      ...traitsOf(node),
      start: async (outer) => {
        const link: ChildLink = {
          exited: (reason) => {
            this.#gone(id, "-");
            onEnd();
            outer.exited(reason);
          },
        };
        try {
          const child = (await inner.start(link)) as RunningChild & { supervisor?: Supervisor; family?: Family<null> };
          this.#events.push(`+${id}`);
          this.#nodes.set(id, node);
          this.#supervisors.set(id, (child.family ?? child.supervisor)!);
          this.#running.set(id, { node, link, child, exit: () => this.#killTree(child) });
          return child;
        } catch (error) {
          this.#events.push(`!${id}`);
          throw error;
        }
      },
    };
  }

  /** Waits a little, as most starts do. */
  async #startWorker(node: TreeNode, id: string, link: ChildLink): Promise<Started> {
    await Promise.resolve();
    if (this.#failing.get(id)?.how === "hang" && this.#nextFailure(id) === "hang") {
      this.#events.push(`!${id}`);
      return new Promise(() => undefined);
    }
    return this.#startNow({ ...node, id }, link);
  }

  #startNow(node: TreeNode, link: ChildLink): Started {
    const { id } = node;
    const failure = this.#nextFailure(id);
    if (failure !== null) {
      this.#events.push(`${failure === "ignore" ? "?" : "!"}${id}`);
      if (failure === "ignore") return "ignore";
      throw new Error("failed");
    }
    this.#events.push(`+${id}`);
    const child: RunningChild = {
      stop: () => {
        if (node.stubborn) return new Promise(() => undefined);
        this.#gone(id, "-", child);
        return undefined;
      },
      kill: () => this.#gone(id, "-", child),
    };
    this.#running.set(id, {
      node,
      link,
      child,
      exit: (reason) => {
        this.#running.delete(id);
        link.exited(REASONS[reason]);
      },
    });
    return child;
  }

  #nextFailure(id: string): StartFailure | null {
    const failing = this.#failing.get(id);
    if (failing === undefined || failing.times === 0) return null;
    failing.times -= 1;
    return failing.how;
  }

  #killTree(child: RunningChild): void {
    this.#orphans = [];
    child.kill!();
    this.#events.push(...this.#orphans.sort());
    this.#orphans = null;
  }

  #gone(id: string, sign: string, child?: RunningChild): void {
    const running = this.#running.get(id);
    if (running === undefined || (child !== undefined && running.child !== child)) return;
    this.#running.delete(id);
    if (this.#orphans === null) this.#events.push(`${sign}${id}`);
    else this.#orphans.push(`~${id}`);
  }
}

const traitsOf = ({ restart, shutdown, significant }: Traits) => ({ restart, significant, shutdownMs: shutdown });

function word(answer: VerbAnswer): string {
  if (!answer.ok) return answer.error;
  return answer.incarnation === null ? "ok undefined" : "ok";
}

function failedPath(error: unknown): string[] {
  return error instanceof ChildStartError ? [error.child, ...failedPath(error.cause)] : [];
}

const counts = (found: ChildCounts | null): string =>
  found === null ? "noproc" : `${found.specs}/${found.active}/${found.supervisors}/${found.workers}`;

const childWord = ({ id, child }: { readonly id: string; readonly child: unknown }): string =>
  `${id}${child === "undefined" ? "-" : child === "restarting" ? "~" : ""}`;

function listing(sup: Supervisor | Family<null>, list: ChildList | FamilyListing): string {
  if (sup instanceof Supervisor) return list.map(childWord).join(" ");
  const running = list.filter(({ child }) => child !== "restarting").map(({ id }) => id);
  const restarting = list.length - running.length;
  return [...running.sort(), ...(restarting > 0 ? [`~${restarting}`] : [])].join(" ");
}
