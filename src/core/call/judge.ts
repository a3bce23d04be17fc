import type { Aspect } from '../../spec/aspects.js';
import type { AttemptEnd } from './attempt.js';

/** What follows from how an attempt ended: a decision, apart from carrying it out. */
export type Decision =
  | { readonly kind: 'return' }
  /** The call's own fault: thrown, nobody is blamed. */
  | { readonly kind: 'throw' }
  /** The next member; what this says of the one that was tried: */
  | {
      readonly kind: 'next';
      /** `suspect`: it is probed. `busy`: it gets no work for a moment. `lacks`: not this mechanism. */
      readonly blame: 'none' | 'suspect' | 'busy' | 'lacks';
      /** The job may have brought its host down. */
      readonly charge: boolean;
    };

const next = (blame: 'none' | 'suspect' | 'busy' | 'lacks', charge = false): Decision => ({
  kind: 'next',
  blame,
  charge,
});

/** What an earlier attempt of the same call said. */
export interface EarlierAnswers {
  /** The code that another member has given, if it was ambiguous. */
  readonly ambiguousCode: number | undefined;
  readonly aspect: Aspect;
}

/** Judges an attempt's end. */
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
      // After an unknown outcome a stateful signature is not made again.
      if (history.aspect === 'stateful' && end.begun) return { kind: 'throw' };
      return next('suspect', end.charged);
    case 'code':
      break;
  }
  // No second try with a PIN that was refused (Rule 6).
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
