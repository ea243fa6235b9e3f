// Data folder: the place on disk that makes a process this node and no other: its id, and the lock that the id counts with.
//
// The lock is a listening unix socket. Unlike a pid file it cannot be stale: the kernel refuses connections to the socket
// of a dead process at once, and keeps accepting for one that is only stopped (SIGSTOP, a debugger, a sleeping laptop).
// The socket lives in a folder of its own, `lock/<token>`: it is bound as `lock-<token>/<token>` and put in place by one
// rename of the folder, which the file system refuses while `lock/` holds anything. A dead holder is removed by its token.
//
// Invariants
//   F1. At most one live process holds the lock of a folder. The rename is atomic and onto an emptied `lock/` only; a
//       token is never used twice, so removing a dead holder can never hit the one that came after it.
//   F2. A socket is in place only when it already listens: no holder can be mistaken for a dead one while it starts.
//   F3. The stored node id is used only by a process that held the lock when it opened the folder; any other uses a
//       fresh one for its whole life, also when it gets the lock later.
//   F4. The node id is on disk, synced, before it is returned.

import { createHash, randomBytes } from "node:crypto";
import { lstat, mkdir, open, readdir, readFile, realpath, rename, rm, rmdir, unlink } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { dirname, join } from "node:path";
import { DataFolderError } from "../errors.ts";

/** The kernel's limit is 108 bytes on Linux and 104 on macOS, with the closing zero. */
export const SOCKET_PATH_BYTES_MAX = 100;
/** Not os.tmpdir(): two processes with different TMPDIR must come to the same path. */
const SHORT_ROOT = "/tmp";
const TAKE_ATTEMPTS_MAX = 100;
const NODE_ID = /^[0-9a-f]{16}$/;

export interface DataFolder {
  /** The real path, without symbolic links. */
  readonly dir: string;
  /** 16 hex digits, the same for the whole life of this object (F3). */
  readonly nodeId: string;
  readonly holdsLock: boolean;
  /** Takes the lock if no live process has it. @returns whether this process holds it now */
  tryLock(): Promise<boolean>;
  /** Gives the lock back. Harmless when it is not held or already closed. */
  close(): Promise<void>;
}

export interface DataFolderOptions {
  /** Makes 16 random hex digits; given by tests. */
  readonly randomId?: () => string;
}

/**
 * Creates the folder if need be and tries to take its lock.
 * @throws DataFolderError  it is not a folder, not writable, full, or cannot hold a socket
 */
export async function openDataFolder(dir: string, options: DataFolderOptions = {}): Promise<DataFolder> {
  const randomId = options.randomId ?? (() => randomBytes(8).toString("hex"));
  const real = await guarded(dir, () => createFolder(dir));
  const lock = new FolderLock(real);
  const holdsLock = await guarded(real, () => lock.tryTake());
  const nodeId = holdsLock ? await guarded(real, () => storedNodeId(real, randomId)) : randomId(); // F3
  return {
    dir: real,
    nodeId,
    get holdsLock() {
      return lock.isHeld;
    },
    tryLock: () => guarded(real, () => lock.tryTake()),
    close: () => lock.release(),
  };
}

/**
 * Whether a live process holds the folder's lock. Changes nothing, not even what a dead one has left.
 * @param dir the folder's real path
 */
export async function isDataFolderInUse(dir: string): Promise<boolean> {
  const place = lockPlace(dir);
  const holders = await Promise.all((await namesIn(place)).map((name) => isAlive(join(place, name))));
  return holders.includes(true);
}

/**
 * Where the socket `name` of a data folder is: in it, or, when that path is too long for a unix socket, in a folder of a
 * short path named by a hash. Pure.
 * @param dir the folder's real path
 */
export function socketPath(dir: string, name: string): string {
  const direct = join(dir, name);
  if (Buffer.byteLength(direct) <= SOCKET_PATH_BYTES_MAX) return direct;
  return join(SHORT_ROOT, `colloquy-${createHash("sha256").update(dir).digest("hex").slice(0, 20)}`, name);
}

/**
 * Makes sure that a socket can be put at `path`, as given by `socketPath(dir, ...)`.
 * @throws DataFolderError  the folder of short path belongs to somebody else
 */
export async function prepareSocketPath(dir: string, path: string): Promise<void> {
  if (path.startsWith(join(dir, "/"))) return;
  const folder = join(SHORT_ROOT, path.slice(SHORT_ROOT.length + 1).split("/")[0]!);
  await mkdir(folder, { mode: 0o700 }).catch((error) => {
    if (codeOf(error) !== "EEXIST") throw error;
  });
  const { uid, mode } = await lstat(folder).then((stats) => ({
    uid: stats.uid,
    mode: stats.isDirectory() ? stats.mode : 0o777,
  }));
  if (uid !== process.getuid?.() || (mode & 0o022) !== 0) {
    throw new DataFolderError(
      dir,
      `its sockets would be in ${folder}, which others can write; nothing was changed; remove that folder or choose a data folder with a shorter path`,
    );
  }
}

class FolderLock {
  readonly #dir: string;
  #held: { readonly server: Server; readonly socket: string } | undefined;
  #pending: Promise<boolean> | undefined;

  constructor(dir: string) {
    this.#dir = dir;
  }

  get isHeld(): boolean {
    return this.#held !== undefined;
  }

  tryTake(): Promise<boolean> {
    this.#pending ??= this.#take().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  async #take(): Promise<boolean> {
    if (this.#held) return true;
    for (let attempt = 1; attempt <= TAKE_ATTEMPTS_MAX; attempt++) {
      const token = randomBytes(4).toString("hex");
      const socket = socketPath(this.#dir, `lock-${token}/${token}`);
      const place = lockPlace(this.#dir);
      if (await hasLiveHolder(place)) return false; // the usual answer to a second process, without a trace
      await prepareSocketPath(this.#dir, socket);
      const server = await putInPlace(socket, place);
      if (!server) continue; // another was faster: look who it is
      this.#held = { server, socket: join(place, token) };
      await removeLeftovers(dirname(place));
      return true;
    }
    throw new DataFolderError(
      this.#dir,
      `its lock can neither be taken nor has it a live holder; nothing was changed; type: rm -r '${join(this.#dir, "lock")}'`,
    );
  }

  async release(): Promise<void> {
    await this.#pending?.catch(() => false);
    const held = this.#held;
    if (!held) return;
    this.#held = undefined;
    await unlink(held.socket).catch(ignoreMissing); // first the name, then the life: nobody sees a dead holder
    await closed(held.server);
    await rmdir(dirname(held.socket)).catch(() => undefined); // not empty: the next holder is already there
  }
}

/** The folder that holds the holder's socket. Its path is as long as that of a candidate's, so both are at the same place. */
const lockPlace = (dir: string): string => join(dirname(socketPath(dir, "lock-00000000/00000000")), "..", "lock");

/** Probes every socket in `place`; removes the dead by name (F1). @returns whether one is alive */
async function hasLiveHolder(place: string): Promise<boolean> {
  for (const name of await namesIn(place)) {
    if (await isAlive(join(place, name))) return true;
    await unlink(join(place, name)).catch(ignoreMissing);
  }
  return false;
}

/** F2: only a refusal or a missing file means dead; a full backlog (EAGAIN) or a foreign owner (EACCES) is a life. */
function isAlive(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", (error) => resolve(!["ECONNREFUSED", "ENOENT"].includes(codeOf(error) ?? "")));
  });
}

/**
 * Listens on `socket` and moves its folder onto `place` (F2).
 * @returns undefined when `place` holds another's socket, or when the winner took ours, not yet listening, for a leftover
 */
async function putInPlace(socket: string, place: string): Promise<Server | undefined> {
  const own = dirname(socket);
  let server: Server | undefined;
  await mkdir(own, { mode: 0o700 });
  try {
    server = await listen(socket);
    await rename(own, place);
    return server;
  } catch (error) {
    if (server) await closed(server);
    const isRemoved = (await lstat(own).catch(ignoreMissing)) === undefined; // libuv says EACCES for it, not ENOENT
    await rm(own, { recursive: true, force: true });
    if (isRemoved || ["ENOTEMPTY", "EEXIST"].includes(codeOf(error) ?? "")) return undefined;
    throw error;
  }
}

/** Removes what processes have left that died between binding their socket and putting it in place. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await namesIn(folder)) {
    const token = /^lock-([0-9a-f]{8})$/.exec(name)?.[1];
    if (!token || (await isAlive(join(folder, name, token)))) continue;
    await rm(join(folder, name), { recursive: true, force: true }).catch(() => undefined);
  }
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((probe) => probe.destroy());
    server.once("error", reject);
    server.listen({ path, exclusive: true }, () => {
      server.off("error", reject).on("error", () => undefined); // accept can fail (too many files); the lock holds all the same
      server.unref();
      resolve(server);
    });
  });
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

async function createFolder(dir: string): Promise<string> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  return realpath(dir);
}

/** The id in the folder, or a new one if there is none that can be read: a node that lost its id is merely a new node. */
async function storedNodeId(dir: string, randomId: () => string): Promise<string> {
  const file = join(dir, "node-id");
  const stored = await readFile(file, "utf8").catch(ignoreMissing);
  const known = stored?.trim();
  if (known && NODE_ID.test(known)) return known;
  const fresh = randomId();
  await writeSynced(file, `${fresh}\n`); // F4
  return fresh;
}

async function writeSynced(file: string, text: string): Promise<void> {
  const next = `${file}.next`;
  const handle = await open(next, "w", 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(next, file);
  const folder = await open(dirname(file), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(ignoreMissing)) ?? [];
}

function ignoreMissing(error: unknown): undefined {
  if (codeOf(error) !== "ENOENT") throw error;
  return undefined;
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

const EXPLAINED: Readonly<Record<string, string>> = {
  EACCES: "this user may not write there",
  EPERM: "this user may not write there, or its file system has no sockets",
  EROFS: "its file system is read-only",
  ENOSPC: "the disk is full",
  EDQUOT: "the user's share of the disk is full",
  ENOTDIR: "it is not a folder",
  EEXIST: "it is not a folder",
  ENOTSUP: "its file system has no sockets",
  EOPNOTSUPP: "its file system has no sockets",
};

/** Every file system error leaves this module as one sentence. */
async function guarded<T>(dir: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DataFolderError) throw error;
    const code = codeOf(error) ?? "";
    const why = EXPLAINED[code] ?? (error instanceof Error ? error.message : String(error));
    const next =
      code === "ENOSPC" || code === "EDQUOT" ? "free some space and start again" : "choose another folder with --data";
    throw new DataFolderError(dir, `${why}; nothing that was stored is lost; ${next}`, { cause: error });
  }
}
