/**
 * @param startHelp what `colloquy start --help` prints
 * @returns the whole of docs/config.md
 */
export function configReference(config: typeof import("../src/config.ts"), startHelp: string): string;
