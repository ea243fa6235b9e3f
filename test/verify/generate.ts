// Writes the folder of a generated run, for measuring: npx jiti test/verify/generate.ts <folder> <messages> [conversations]

import { RunGenerator, RunWriter } from "./support/generated-run.ts";

const BATCH = 50;
const [folder, messages, conversations = "20000"] = process.argv.slice(2);
if (folder === undefined || !(Number(messages) > 0)) {
  process.stderr.write("usage: npx jiti test/verify/generate.ts <folder> <messages> [conversations]\n");
  process.exit(2);
}
const generator = new RunGenerator(Number(conversations));
const writer = new RunWriter(folder);
writer.write(generator.begin());
for (let made = 0; made < Number(messages); made += BATCH) writer.write(generator.batch(BATCH, made * 7));
writer.write(generator.end());
writer.close();
