/** Fault that is put into the source text, to prove that simulations find it. */
export interface Mutant {
  /** Property that the fault breaks. */
  readonly name: string;
  /** Profile that is to find it. */
  readonly profile: string;
  readonly edits: readonly { readonly file: string; readonly from: string; readonly to: string }[];
}

const mutant = (name: string, profile: string, file: string, from: string, to: string): Mutant => ({
  name,
  profile,
  edits: [{ file: `src/core/${file}`, from, to }],
});

/** Faults by the rule or the property that they break. */
export const MUTANTS: readonly Mutant[] = [
  {
    name: 'a host without a login is believed when it shows nothing',
    profile: 'everything',
    edits: [
      {
        file: 'src/core/group/connection.ts',
        from: 'if (!this.hasLogin && job.sessionless !== true) return',
        to: 'if (this.end !== undefined) return',
      },
      {
        file: 'src/core/call/member-job-run.ts',
        from: 'connection?.hasLogin === true &&',
        to: 'connection !== undefined &&',
      },
    ],
  },
  mutant(
    'a member that lacked an object tells that the object is gone',
    'everything',
    'recovery/absence.ts',
    'return found.length === holding.length ? found : [];',
    'return others;',
  ),
  mutant(
    'an interrupted change is resolved while a member that took part is away',
    'everything',
    'recovery/reconciliation.ts',
    "fate: isKnown ? 'open' : 'in doubt'",
    "fate: 'open' as const, isKnown",
  ),
  mutant(
    'a destroy goes by the names that the change tells, and not by that in the key record',
    'kills',
    'recovery/redo.ts',
    'objects.push(each);',
    'void each;',
  ),
  mutant(
    'a change that did not begin leaves the key record with the new name',
    'everything',
    'replication/attribute-change-job.ts',
    'const record = recordAfter(group, object.record, object, former);',
    'const record = undefined;',
  ),
  mutant(
    'two processes bring one member up to date at a time',
    'kills',
    'recovery/recovery.ts',
    'const isClaimed = member.recovery.claim !== undefined;',
    'const isClaimed = member.name.length > 0;',
  ),
  mutant(
    'members that a change did not come to are not noted',
    'hosts',
    'replication/change-journal.ts',
    'return serials.filter(',
    'return serials.slice(serials.length).filter(',
  ),
  mutant(
    'interrupted changes of processes that have ended stay',
    'kills',
    'recovery/abandoned-intent.ts',
    'group.coordinator.isWriterGone(writer) === true) return true;',
    'group.coordinator.isWriterGone(writer) === undefined) return true;',
  ),
  mutant(
    '[Rule 16] a destroyed key comes back with a member that missed the destroy',
    'hosts',
    'recovery/removal.ts',
    'if (match !== undefined && mayGo)',
    'if (match !== undefined && mayGo && record.undoes === true)',
  ),
  mutant(
    'the failure of a change that may be finished is told as certain',
    'kills',
    'replication/change-execution.ts',
    'if (!change.isInDoubt) return error;',
    'if (change.group !== undefined) return error;',
  ),
  mutant(
    'an abandoned intent is resolved by records that were read before its writer ended',
    'everything',
    'recovery/reconciliation.ts',
    'const own = abandoned.size === 0 ? first :',
    'const own = first !== undefined ? first :',
  ),
  mutant(
    'an enumeration that fails at once stays for ever',
    'outages',
    'base/waiting.ts',
    'return current === undefined || current.completed ? start() : current;',
    'return current === undefined ? start() : current;',
  ),
  mutant(
    'a confirmed creation is not proven by any record if the holder of its intent is lost',
    'kills',
    'replication/replicated-change.ts',
    'return (yield* this.#noteMissed(left, missedBy(group, left))).length > 0;',
    'return left.length > 0;',
  ),
  mutant(
    'a caller is told at the deadline that a set has failed',
    'stops',
    'replication/change-execution.ts',
    'if (change.isIrrevocable || change.mayBeFinished) {',
    'if (change.isIrrevocable) {',
  ),
  mutant(
    'a key is counted as installed without being there',
    'hosts',
    'recovery/redo.ts',
    "if (has !== 'no') return has === 'yes' ? 'done' : 'failed';\n    const own",
    "if (has !== 'no' || member.name !== '') return 'done';\n    const own",
  ),
];
