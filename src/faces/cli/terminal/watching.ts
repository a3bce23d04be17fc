import type { OpenGroup } from '../../../runtime/groups/open-group.js';
import type { Output } from './output.js';

/** A terminal begins anew at its top; what is no terminal gets an empty line. */
export function clearScreen(output: Output): void {
  output.line(output.isTerminal ? '\u001b[H\u001b[2J' : '');
}

/** For people: `3 s`, `2 min`, `5 h`, `12 d`. */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** Resolves when a member changes its state, after `within` ms, or when it is given up. */
export async function untilChanged(open: OpenGroup, within: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(end, within);
    const stop = open.onEvent(({ type }) => {
      if (type === 'member' || type === 'membership') end();
    });
    signal.addEventListener('abort', end, { once: true });
    function end(): void {
      clearTimeout(timer);
      stop();
      signal.removeEventListener('abort', end);
      resolve();
    }
  });
}
