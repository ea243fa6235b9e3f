// A process of its own that opens a data folder, and its Redis if asked, on request. Talks to its parent over IPC; it is
// started by `startFolderProcess` of folder-processes.ts.

import { systemEnvironment } from "../../src/environment.ts";
import { type DataFolder, openDataFolder } from "../../src/store/data-folder.ts";
import type { EmbeddedRedis } from "../../src/store/embedded-redis.ts";

let folder: DataFolder | undefined;
let redis: EmbeddedRedis | undefined;

const verbs = {
  async open(dir: string) {
    folder = await openDataFolder(dir);
    return { nodeId: folder.nodeId, holdsLock: folder.holdsLock };
  },
  async tryLock() {
    return { nodeId: folder!.nodeId, holdsLock: await folder!.tryLock() };
  },
  async close() {
    await redis?.stop();
    await folder?.close();
    redis = folder = undefined;
    return {};
  },
  async redis() {
    const { startEmbeddedRedis } = await import("../../src/store/embedded-redis.ts"); // late: most of these processes start none
    redis = await startEmbeddedRedis({ folder: folder!, durability: "always", environment: systemEnvironment });
    return { pid: redis.pid, adopted: redis.adopted, socketPath: redis.socketPath };
  },
};

process.on("message", (request: { verb: keyof typeof verbs; dir: string }) => {
  verbs[request.verb](request.dir).then(
    (value) => process.send!({ value }),
    (error: Error & { code?: string; reason?: string }) =>
      process.send!({ error: { message: error.message, code: error.code, reason: error.reason } }),
  );
});
process.on("disconnect", () => process.exit(0)); // the test is over, however it ended
process.send!({ value: { ready: true } });
