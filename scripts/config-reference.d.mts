/** @returns the whole of docs/config.md */
export function configReference(config: typeof import("../src/config.ts")): string;
