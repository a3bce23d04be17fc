import { execFile } from 'node:child_process';
import { plain, Terminal } from './cli.js';

/** Command of a page, with the output that the page shows. */
export interface Scene {
  readonly command: string;
  readonly output: readonly string[];
  /** Keys that are typed after each text that the command shows. */
  readonly typed: readonly { readonly after: string; readonly keys: string }[];
  /** Exit code of the command. */
  readonly exits: number;
  /** Line of the command in the page. */
  readonly line: number;
}

/** Output and exit code of a scene that was run. */
export interface Played {
  readonly lines: readonly string[];
  readonly code: number | null;
}

/**
 * Reads the commands in a page's `console` blocks. A block that is run in a terminal has a comment before it, with a
 * line for each answer: `<!-- typed` / `after this text: keys` / `-->`; `⏎` is the enter key. `<!-- exits 0 3 -->`
 * before a block gives the exit codes of its commands; the default is 0.
 */
export function readScenes(page: string): readonly Scene[] {
  const scenes: Scene[] = [];
  const lines = page.split('\n');
  let typed: { after: string; keys: string }[] = [];
  let output: string[] | undefined;
  let exits: number[] = [];
  let isBlock = false;
  for (const [index, line] of lines.entries()) {
    const answer = /^(.+): (.*⏎)$/u.exec(line);
    if (line === '<!-- typed') typed = [];
    else if (line === '```console') isBlock = true;
    else if (line === '```') {
      if (isBlock) [typed, exits] = [[], []];
      isBlock = false;
    } else if (isBlock && line.startsWith('$ ')) {
      output = [];
      scenes.push({ command: line.slice(2), output, typed, exits: exits.shift() ?? 0, line: index + 1 });
    } else if (isBlock && line.startsWith('> ')) {
      const last = scenes.pop();
      if (last !== undefined) scenes.push({ ...last, command: `${last.command}\n${line.slice(2)}` });
    } else if (isBlock) output?.push(line);
    else if (line.startsWith('<!-- exits ')) exits = line.split(' ').slice(2, -1).map(Number);
    else if (answer !== null) typed.push({ after: answer[1] ?? '', keys: (answer[2] ?? '').replaceAll('⏎', '\r') });
  }
  return scenes;
}

/** Runs a scene in a folder. */
export async function play({ command, typed }: Scene, cwd: string, env: NodeJS.ProcessEnv): Promise<Played> {
  if (typed.length > 0) {
    const terminal = new Terminal(command, { cwd, env });
    for (const { after, keys } of typed) {
      await terminal.until(new RegExp(after.replaceAll(/[.*+?^${}()|[\]\\]/gu, '\\$&'), 'u'));
      terminal.type(keys);
    }
    const code = await terminal.ended;
    return { lines: terminal.text.split('\n'), code };
  }
  return await new Promise((resolve) => {
    execFile('bash', ['-c', `${command}`.concat(' 2>&1')], { cwd, env: { ...process.env, ...env } }, (error, stdout) =>
      resolve({ lines: plain(stdout).trimEnd().split('\n'), code: error === null ? 0 : Number(error.code) }),
    );
  });
}

/** Replaces the parts of a line that differ between runs and machines, as ids, times and paths. */
function alike(line: string): string {
  return line
    .replaceAll(/"?\b[0-9a-f]{64}\b"?/gu, 'KEY')
    .replaceAll(/\b[0-9a-f]{32}\b/gu, 'ID')
    .replaceAll(/\b[0-9a-f]{16}\b/gu, 'SERIAL')
    .replaceAll(/\bHA[0-9A-F]{14}\b/gu, 'SERIAL')
    .replaceAll(/\b\d{7,15}\b/gu, 'NUMBER')
    .replaceAll(/\b\d+\.\d ms\b/gu, 'TIME')
    .replaceAll(/\b\d+ s\b/gu, 'TIME')
    .replaceAll(/\b\d\d?:\d\d:\d\d\b.*$/gu, 'TIME')
    .replaceAll(/\/\S*\/(?=[\w.-]+(?:\s|$))/gu, '/PATH/')
    .replaceAll(/\s+/gu, ' ')
    .trim();
}

/** Returns lines for comparison: `alike`, without empty lines, and rows that begin with a handle sorted. */
export function comparable(lines: readonly string[]): readonly string[] {
  const result: string[] = [];
  let rows: string[] = [];
  for (const line of [...lines.map(alike), '']) {
    if (line.startsWith('NUMBER ')) {
      rows.push(line);
      continue;
    }
    result.push(...rows.sort());
    rows = [];
    if (line !== '') result.push(line);
  }
  return result;
}
