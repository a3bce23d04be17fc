import type { OpenGroup } from '../../../runtime/groups/open-group.js';
import type { Output } from './output.js';

/** Clears a terminal; writes an empty line if the output is not a terminal. */
export function clearScreen(output: Output): void {
  output.line(output.isTerminal ? '\u001b[H\u001b[2J' : '');
}

/** Formats a duration (ms) for people: `3 s`, `2 min`, `5 h`, `12 d`. */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** Resolves when a member changes its state or the members change, after `within` ms, or when the signal aborts. */
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
