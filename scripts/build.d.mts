export function isBuilt(root: string): boolean;
export function build(root: string, print: (text: string) => void): Promise<boolean>;
