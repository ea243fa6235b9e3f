// Model of OTP's supervisor, to hold the code against. It is written from Erlang's documentation as a world of processes with
// mailboxes, plain and slow, and shares nothing with supervisors/. test/supervisors/erlang holds it against Erlang itself.

import type {
  Action,
  ExitWord,
  Outcome,
  StartFailure,
  SupNode,
  TraceSubject,
  TreeNode,
  WorkerNode,
} from "../support/trace.ts";
import { normalOrder } from "../support/trace.ts";

type Mail =
  | { readonly kind: "EXIT"; readonly process: Process; readonly reason: ExitWord }
  | { readonly kind: "try_again"; readonly child: string | Slot }
  | { readonly kind: "request"; readonly action: Action; readonly reply: (word: string) => void };

interface Slot {
  readonly node: TreeNode;
  pid: Process | "undefined" | "restarting";
}

class World {
  events: string[] = [];
  readonly failing = new Map<string, { times: number; how: StartFailure }>();
  readonly supervisors = new Map<string, SupProcess>();
  periodMs = 0;
  nowMs = 0;

  take(): string[] {
    const events = normalOrder(this.events);
    this.events = [];
    return events;
  }

  nextFailure(id: string): StartFailure | null {
    const failing = this.failing.get(id);
    if (failing === undefined || failing.times === 0) return null;
    failing.times -= 1;
    return failing.how;
  }

  /** Lets everybody read their mail until nobody has any. */
  run(): void {
    for (;;) {
      const busy = [...this.supervisors.values()].find((sup) => sup.isAlive && sup.mailbox.length > 0);
      if (busy === undefined) return;
      busy.receive(busy.mailbox.shift()!);
    }
  }
}

abstract class Process {
  isAlive = true;
  readonly world: World;
  readonly id: string;
  readonly parent: SupProcess | null;

  constructor(world: World, id: string, parent: SupProcess | null) {
    this.world = world;
    this.id = id;
    this.parent = parent;
  }

  /** Ends by itself: its supervisor hears of it. */
  exit(reason: ExitWord): void {
    this.isAlive = false;
    this.parent?.mailbox.push({ kind: "EXIT", process: this, reason });
  }

  abstract shutDown(): void;
  abstract below(): Process[];
}

class WorkerProcess extends Process {
  shutDown(): void {
    this.isAlive = false;
    this.world.events.push(`-${this.id}`);
  }

  below(): Process[] {
    return [this];
  }
}

type StartResult = { readonly ok: Process | "undefined" } | { readonly error: string[] };

class SupProcess extends Process {
  readonly node: SupNode;
  mailbox: Mail[] = [];
  /** Oldest first, in start order. */
  slots: Slot[];
  #restarts: number[] = [];

  constructor(world: World, node: SupNode, parent: SupProcess | null) {
    super(world, node.id, parent);
    this.node = node;
    this.slots = this.#isSimple ? [] : node.children.map((child) => ({ node: child, pid: "undefined" }));
  }

  get #isSimple(): boolean {
    return this.node.strategy === "simple_one_for_one";
  }

  /** The ids down to the one that failed, if one did. */
  init(): string[] | null {
    for (const slot of [...this.slots]) {
      const started = this.#startProcess(slot.node);
      if ("error" in started) {
        this.#terminateAll();
        this.isAlive = false;
        return [slot.node.id, ...started.error];
      }
      slot.pid = started.ok;
      if (started.ok === "undefined" && slot.node.restart === "temporary") this.#drop(slot);
    }
    this.world.supervisors.set(this.id, this);
    return null;
  }

  shutDown(): void {
    this.#terminateAll();
    this.isAlive = false;
    for (const mail of this.mailbox) if (mail.kind === "request") mail.reply("noproc");
    this.world.events.push(`-${this.id}`);
  }

  below(): Process[] {
    return [this, ...this.slots.flatMap(({ pid }) => (pid instanceof Process ? pid.below() : []))];
  }

  shape(): string {
    const parts = [...this.slots].reverse().map(({ node, pid }) => {
      if (pid instanceof SupProcess) return pid.shape();
      return `${node.id}${suffix(pid)}`;
    });
    return this.#isSimple ? `${this.id}{${this.#listing()}}` : `${this.id}(${parts.join(" ")})`;
  }

  receive(mail: Mail): void {
    switch (mail.kind) {
      case "EXIT": {
        const slot = this.slots.find(({ pid }) => pid === mail.process);
        if (slot !== undefined) this.#childExited(slot, mail.reason);
        return;
      }
      case "try_again": {
        const { child } = mail;
        const slot = typeof child === "string" ? this.slots.find(({ node }) => node.id === child) : child;
        if (slot?.pid === "restarting" && this.slots.includes(slot)) this.#restart(slot);
        return;
      }
      case "request":
        mail.reply(this.#isSimple ? this.#simpleRequest(mail.action) : this.#request(mail.action));
    }
  }

  #childExited(slot: Slot, reason: ExitWord): void {
    const isNormal = reason === "normal" || reason === "shutdown" || reason === "shutdown_term";
    const { restart } = slot.node;
    if (restart === "permanent" || (restart === "transient" && !isNormal)) {
      this.#restart(slot);
      return;
    }
    this.#delete(slot);
    if (!slot.node.significant || this.node.autoShutdown === "never") return;
    const othersLeft = this.slots.some(({ node, pid }) => (this.#isSimple || node.significant) && pid !== "undefined");
    if (this.node.autoShutdown === "any_significant" || !othersLeft) this.#giveUp();
  }

  #restart(slot: Slot): void {
    this.#restarts = this.#restarts.filter((atMs) => this.world.nowMs - atMs <= this.world.periodMs);
    this.#restarts.push(this.world.nowMs);
    if (this.#restarts.length > this.node.intensity) {
      this.#delete(slot);
      this.#giveUp();
      return;
    }
    slot.pid = "undefined";
    switch (this.node.strategy) {
      case "simple_one_for_one":
      case "one_for_one":
        this.#startAgain([slot]);
        return;
      case "rest_for_one":
        this.#restartTogether(this.slots.slice(this.slots.indexOf(slot)));
        return;
      case "one_for_all":
        this.#restartTogether([...this.slots]);
    }
  }

  #restartTogether(slots: Slot[]): void {
    for (const slot of [...slots].reverse()) this.#terminate(slot);
    this.#startAgain(slots.filter((slot) => this.slots.includes(slot)));
  }

  #startAgain(slots: Slot[]): void {
    for (const slot of slots) {
      const started = this.#startProcess(slot.node);
      if ("error" in started) {
        slot.pid = "restarting";
        this.mailbox.push({ kind: "try_again", child: this.#isSimple ? slot : slot.node.id });
        return;
      }
      slot.pid = started.ok;
    }
  }

  /** Ends because restarting did not help, or because nothing that matters is left. */
  #giveUp(): void {
    this.shutDown();
    this.parent?.mailbox.push({ kind: "EXIT", process: this, reason: "shutdown" });
  }

  #terminateAll(): void {
    for (const slot of [...this.slots].reverse()) this.#terminate(slot);
  }

  #terminate(slot: Slot): void {
    if (slot.pid instanceof Process && slot.pid.isAlive) slot.pid.shutDown();
    if (slot.node.restart === "temporary" || this.#isSimple) this.#drop(slot);
    else slot.pid = "undefined";
  }

  #delete(slot: Slot): void {
    if (slot.node.restart === "temporary" || this.#isSimple) this.#drop(slot);
    else slot.pid = "undefined";
  }

  #drop(slot: Slot): void {
    this.slots = this.slots.filter((other) => other !== slot);
  }

  #startProcess(node: TreeNode): StartResult {
    if (node.kind === "supervisor") {
      const sup = new SupProcess(this.world, node, this);
      const failed = sup.init();
      this.world.events.push(`${failed === null ? "+" : "!"}${node.id}`);
      return failed === null ? { ok: sup } : { error: failed };
    }
    const failure = this.world.nextFailure(node.id);
    if (failure === "ignore") {
      this.world.events.push(`?${node.id}`);
      return { ok: "undefined" };
    }
    this.world.events.push(`${failure === null ? "+" : "!"}${node.id}`);
    return failure === null ? { ok: new WorkerProcess(this.world, node.id, this) } : { error: [] };
  }

  #request(action: Action): string {
    if (action.kind === "which") {
      return [...this.slots]
        .reverse()
        .map(({ node, pid }) => `${node.id}${suffix(pid)}`)
        .join(" ");
    }
    if (action.kind === "count") return this.#count();
    const id = action.kind === "start_new" ? action.node.id : "id" in action ? action.id : "";
    const slot = this.slots.find(({ node }) => node.id === id);
    if (action.kind === "start_new") {
      if (slot !== undefined) return slot.pid instanceof Process ? "already_started" : "already_present";
      const started = this.#startProcess(action.node);
      if ("error" in started) return "start_failed";
      if (started.ok !== "undefined" || action.node.restart !== "temporary")
        this.slots.push({ node: action.node, pid: started.ok });
      return started.ok === "undefined" ? "ok undefined" : "ok";
    }
    if (slot === undefined) return "not_found";
    if (action.kind === "terminate") {
      this.#terminate(slot);
      return "ok";
    }
    if (slot.pid === "restarting") return "restarting";
    if (slot.pid !== "undefined") return "running";
    if (action.kind === "delete") {
      this.#drop(slot);
      return "ok";
    }
    const started = this.#startProcess(slot.node);
    if ("error" in started) return "start_failed";
    slot.pid = started.ok;
    return started.ok === "undefined" ? "ok undefined" : "ok";
  }

  #simpleRequest(action: Action): string {
    switch (action.kind) {
      case "which":
        return this.#listing();
      case "count": {
        const active = this.slots.filter(({ pid }) => pid !== "restarting").length;
        return `1/${active}/0/${this.slots.length}`;
      }
      case "start": {
        const node: WorkerNode = { ...(this.node.children[0] as WorkerNode), id: action.id };
        const started = this.#startProcess(node);
        if ("error" in started) return "start_failed";
        if (started.ok === "undefined") return "ok undefined";
        this.slots.push({ node, pid: started.ok });
        return "ok";
      }
      case "terminate": {
        const slot = this.slots.find(({ node }) => node.id === action.id);
        if (slot === undefined) return "not_found";
        this.#terminate(slot);
        return "ok";
      }
      default:
        return "simple_one_for_one";
    }
  }

  #count(): string {
    const of = (test: (slot: Slot) => boolean): number => this.slots.filter(test).length;
    return [
      this.slots.length,
      of(({ pid }) => pid instanceof Process && pid.isAlive),
      of(({ node }) => node.kind === "supervisor"),
      of(({ node }) => node.kind === "worker"),
    ].join("/");
  }

  #listing(): string {
    const running = this.slots.filter(({ pid }) => pid !== "restarting").map(({ node }) => node.id);
    const restarting = this.slots.length - running.length;
    return [...running.sort(), ...(restarting > 0 ? [`~${restarting}`] : [])].join(" ");
  }
}

const suffix = (pid: Slot["pid"]): string => (pid instanceof Process ? "" : pid === "undefined" ? "-" : "~");

export class OtpModel implements TraceSubject {
  readonly #world = new World();
  #root: SupProcess | null = null;

  async start(tree: SupNode, periodMs: number, failing: Parameters<TraceSubject["start"]>[2]): Promise<Outcome> {
    this.#world.periodMs = periodMs;
    for (const { id, times, how } of failing) this.#world.failing.set(id, { times, how });
    const root = new SupProcess(this.#world, tree, null);
    const failed = root.init();
    if (failed === null) this.#root = root;
    return this.#outcome([failed === null ? "ok" : ["failed", ...failed].join(" ")]);
  }

  async step(on: string, actions: readonly Action[]): Promise<Outcome> {
    const answers = actions.map(() => "");
    const world = this.#world;
    actions.forEach((action, i) => {
      switch (action.kind) {
        case "wait":
          world.nowMs += action.ms;
          return;
        case "fail_next":
          world.failing.set(action.id, { times: action.times, how: action.how });
          return;
        case "exit":
          this.#exit(world.supervisors.get(on)!, action.id, action.reason);
          return;
        default: {
          const reply = (word: string): void => {
            answers[i] = word;
          };
          world.supervisors.get(on)!.mailbox.push({ kind: "request", action, reply });
        }
      }
    });
    world.run();
    return this.#outcome(answers);
  }

  async end(): Promise<Outcome> {
    if (this.#root?.isAlive) this.#root.shutDown();
    return this.#outcome([]);
  }

  /** For whoever picks actions: supervisors that are alive, and the children that they run. */
  alive(): { readonly sup: SupNode; readonly known: readonly TreeNode[]; readonly running: readonly TreeNode[] }[] {
    if (!this.#root?.isAlive) return [];
    const sups = this.#root
      .below()
      .filter((process) => process instanceof SupProcess && process.isAlive) as SupProcess[];
    return sups.map((process) => ({
      sup: process.node,
      known: process.slots.map(({ node }) => node),
      running: process.slots
        .filter(({ pid }) => pid instanceof Process && (pid as Process).isAlive)
        .map(({ node }) => node),
    }));
  }

  #exit(sup: SupProcess, id: string, reason: ExitWord): void {
    const pid = sup.slots.find(({ node }) => node.id === id)?.pid;
    if (!(pid instanceof Process) || !pid.isAlive) return;
    if (pid instanceof SupProcess) {
      const gone = pid.below().filter((process) => process.isAlive);
      for (const process of gone) process.isAlive = false;
      this.#world.events.push(...gone.map((process) => `~${process.id}`).sort());
    }
    pid.exit(reason);
  }

  #outcome(answers: readonly string[]): Outcome {
    const shape = this.#root === null ? "" : this.#root.isAlive ? this.#root.shape() : "over";
    return { answers, events: this.#world.take(), shape };
  }
}
