export const HA_LOG: string;
export function makeReplaced(folder: string): void;
export function runReplaced(
  folder: string,
  program: string,
  request: object,
  env: Readonly<Record<string, string>>,
): Promise<string[]>;
