import type { Aspect } from '../../spec/aspects.js';
import type { AttemptEnd } from './attempt-end.js';

/** Decision that follows from the end of an attempt; the call carries the decision out. */
type Decision =
  | { readonly kind: 'return' }
  /** Throws the failure; no member is blamed. */
  | { readonly kind: 'throw' }
  /** Goes on with another member. */
  | {
      readonly kind: 'next';
      /** Blame for the member: `suspect`, `busy` (no work for a moment) or `lacks` (the mechanism is missing). */
      readonly blame: 'none' | 'suspect' | 'busy' | 'lacks';
      /** True if the job may have ended its host. */
      readonly charge: boolean;
    };

const next = (blame: 'none' | 'suspect' | 'busy' | 'lacks', charge = false): Decision => ({
  kind: 'next',
  blame,
  charge,
});

/** Facts that a decision depends on: an answer of an earlier attempt, and the call's aspect. */
interface EarlierAnswers {
  /** Ambiguous code of an earlier attempt; undefined if there was none. */
  readonly ambiguousCode: number | undefined;
  readonly aspect: Aspect;
}

/** Judges the end of an attempt (Rules 6 and 8). */
export function judge(end: AttemptEnd, history: EarlierAnswers): Decision {
  switch (end.kind) {
    case 'ok':
      return { kind: 'return' };
    case 'fault':
      return { kind: 'throw' };
    case 'absent':
    case 'misaligned':
    case 'withdrawn':
    case 'deferred':
      return next('none');
    case 'lost':
      // After an unknown outcome a stateful signature is not repeated.
      if (history.aspect === 'stateful' && end.begun) return { kind: 'throw' };
      return next('suspect', end.charged);
    case 'code':
      break;
  }
  // A login with a refused PIN is not repeated (Rule 6).
  if (end.function === 'X_LogInAgain' && end.verdict === 'credential') return { kind: 'throw' };
  switch (end.verdict) {
    case 'ok':
      return { kind: 'return' };
    case 'caller':
      return { kind: 'throw' };
    case 'mechanism':
      return next('lacks');
    case 'busy':
      return next('busy');
    case 'object':
      return next('none');
    case 'session':
    case 'credential':
      return next('suspect');
    case 'member':
      return history.aspect === 'stateful' ? { kind: 'throw' } : next('suspect');
    case 'ambiguous':
      if (history.aspect === 'stateful' || history.ambiguousCode === end.code) return { kind: 'throw' };
      return next('none');
  }
}
