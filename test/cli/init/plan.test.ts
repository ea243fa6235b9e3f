import { fc, test as law } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import {
  botNameOf,
  checkEmpty,
  colloquySpecifier,
  filled,
  newManifest,
  type SpecifierFacts,
} from "../../../src/cli/init/plan.ts";
import { NAME_PATTERN } from "../../../src/domain/ids.ts";

describe("the name of a bot in a folder", () => {
  test.each([
    ["my-bot", "my-bot"],
    ["/somewhere/My Bot", "my-bot"],
    ["a/b/order_desk.v2", "order-desk-v2"],
  ])("%s: %s", (folder, name) => expect(botNameOf(folder)).toBe(name));

  test.each(["2fast", "böt", "-x", "/", "a".repeat(65)])("%s makes none, and --name helps", (folder) => {
    expect(() => botNameOf(folder)).toThrow(/no bot can be named after it \(give it a name with --name/);
  });

  law.prop([fc.string({ unit: "binary" })])("is one that a bot can have, or refused", (folder) => {
    let name: string | undefined;
    try {
      name = botNameOf(folder);
    } catch {}
    if (name !== undefined) expect(name).toMatch(NAME_PATTERN);
  });
});

test("a folder with anything but git's own is not empty", () => {
  expect(() => checkEmpty("x", [])).not.toThrow();
  expect(() => checkEmpty("x", [".git"])).not.toThrow();
  expect(() => checkEmpty("x", ["b", "a", "c", "d"])).toThrow("x: is not empty (a, b, c, ...); nothing was written");
});

describe("P1: colloquy in the new package.json", () => {
  const facts: SpecifierFacts = {
    packageFolder: "/home/me/project/node_modules/colloquy",
    version: "0.1.0",
    projects: [],
    target: "/home/me/project/my-bot",
    exists: () => true,
  };
  const installed = (specifier: string, kind = "dependencies") => ({
    folder: "/home/me/project",
    manifest: { [kind]: { colloquy: specifier } },
  });

  test.each<[string, Partial<SpecifierFacts>, string]>([
    ["from the registry", { projects: [installed("^0.1.0")] }, "^0.1.0"],
    ["of a version range", { projects: [installed("~0.1.2", "devDependencies")] }, "~0.1.2"],
    ["from a tarball beside the project", { projects: [installed("file:../c-0.1.0.tgz")] }, "file:../../c-0.1.0.tgz"],
    ["from a tarball in the project", { projects: [installed("file:c.tgz")] }, "file:../c.tgz"],
    ["named without file:", { projects: [installed("./c.tgz")] }, "file:../c.tgz"],
    ["from an absolute path", { projects: [installed("file:/opt/c.tgz")] }, "file:../../../../opt/c.tgz"],
    ["from an absolute file URL", { projects: [installed("file:///opt/c.tgz")] }, "file:../../../../opt/c.tgz"],
    ["from a tarball that is gone", { projects: [installed("file:c.tgz")], exists: () => false }, "^0.1.0"],
    ["from git", { projects: [installed("github:me/colloquy#v1")] }, "github:me/colloquy#v1"],
    ["from a workspace", { projects: [installed("workspace:*")] }, "^0.1.0"],
    ["installed for all", { packageFolder: "/usr/lib/node_modules/colloquy" }, "^0.1.0"],
    [
      "by npx, whose own project knows",
      {
        packageFolder: "/home/me/.npm/_npx/1a/node_modules/colloquy",
        projects: [
          { folder: "/home/me/.npm/_npx/1a", manifest: { dependencies: { colloquy: "file:../../../c.tgz" } } },
        ],
      },
      "file:../../c.tgz",
    ],
    [
      "where the nearest project has other things",
      { projects: [{ folder: "/x", manifest: { dependencies: { other: "1" } } }, installed("file:c.tgz")] },
      "file:../c.tgz",
    ],
    ["from a clone", { packageFolder: "/home/me/colloquy" }, "file:../../colloquy"],
    ["from a clone, into itself", { packageFolder: "/home/me", target: "/home/me/my-bot" }, "file:.."],
    ["from a clone, beside which", { packageFolder: "/home/me/project/my-bot/x" }, "file:./x"],
  ])("%s", (_, more, specifier) => {
    expect(colloquySpecifier({ ...facts, ...more })).toBe(specifier);
  });
});

describe("the new package.json", () => {
  const own = {
    version: "0.1.0",
    dependencies: { jiti: "^2.7.0" },
    devDependencies: { typescript: "^7.0.2", "@types/node": "^20.1.0" },
    overrides: { cookie: "^1.1.1" },
  };
  const plan = { botName: "orders", deliverTo: undefined, specifier: "^0.1.0", own };

  test("runs, tests and checks the bot, with the versions that this package is checked with", () => {
    expect(JSON.parse(newManifest(plan))).toEqual({
      name: "orders",
      version: "0.1.0",
      private: true,
      type: "module",
      engines: { node: ">=20.19" },
      scripts: { start: "colloquy start bot.ts", test: "jiti bot.test.ts", check: "tsc" },
      dependencies: { colloquy: "^0.1.0" },
      devDependencies: { "@types/node": "^20.1.0", jiti: "^2.7.0", typescript: "^7.0.2" },
      overrides: { cookie: "^1.1.1" },
      allowScripts: { "msgpackr-extract": false },
    });
  });

  test("quotes what a shell would take apart", () => {
    const { scripts } = JSON.parse(newManifest({ ...plan, deliverTo: "http://h/x?a=1&b='2'" })) as {
      scripts: { start: string };
    };
    expect(scripts.start).toBe(`colloquy start bot.ts --deliver-to 'http://h/x?a=1&b='\\''2'\\'''`);
  });
});

test("a template's file gets the bot's name, and .gitignore its dot", () => {
  expect(filled("gitignore", "x", "b")).toEqual({ name: ".gitignore", text: "x" });
  expect(filled("README.md", "# my-bot: http/my-bot my-bots", "shop")).toEqual({
    name: "README.md",
    text: "# shop: http/shop my-bots",
  });
});
