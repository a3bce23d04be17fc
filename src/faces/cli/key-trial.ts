import { TokenError } from '../../core/base/error.js';
import { runCall } from '../../core/call/call.js';
import { findObjects } from '../../core/call/find.js';
import type { Member } from '../../core/group/member.js';
import { encrypt, type Operation, sign, verify } from '../../core/jobs/operation.js';
import type { VirtualObject } from '../../core/objects/object.js';
import { proveReplicas } from '../../core/status/replica-status.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import { CKK, CKO } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { encodeMechanism, type MechanismInput } from '../../spec/mechanism.js';
import { encodeTemplate } from '../../spec/template.js';

const TEXT = Buffer.from('pkcs11-ha key test: 32 bytes....');

interface Way {
  readonly name: string;
  readonly operation: (key: VirtualObject) => Operation<Buffer>;
}

const signing = (name: string, mechanism: MechanismInput, data = TEXT): Way => ({
  name,
  operation: (key) => sign(encodeMechanism('mechanism', mechanism), key, data),
});
const ciphering = (name: string, mechanism: MechanismInput): Way => ({
  name,
  operation: (key) => encrypt(encodeMechanism('mechanism', mechanism), key, TEXT),
});

/** Ways to use a key that give the same result each time, by its type; the first that the key allows is taken. */
const ways: ReadonlyMap<number, readonly Way[]> = new Map([
  [CKK.aes, [ciphering('AES-ECB', 'AES_ECB'), signing('AES-CMAC', 'AES_CMAC')]],
  [CKK.des3, [ciphering('DES3-ECB', 'DES3_ECB')]],
  [CKK.rsa, [signing('RSA PKCS #1', 'SHA256_RSA_PKCS')]],
  [CKK.genericSecret, [signing('HMAC-SHA256', 'SHA256_HMAC')]],
  [CKK.ecEdwards, [signing('EdDSA', 'EDDSA')]],
]);

/** Its signatures differ each time: they are compared by the public half. */
const ecdsa = signing('ECDSA', 'ECDSA');

/** What a key gives on each member alone. */
export interface KeyTrial {
  readonly handle: number;
  readonly label: string;
  readonly id: string;
  /** How it was used; empty where there is no way. */
  readonly way: string;
  /** `incomplete`: some could use it and others could not; `untested`: none could, or there is nothing to compare by. */
  readonly result: 'same' | 'different' | 'incomplete' | 'untested';
  readonly members: Readonly<Record<string, string>>;
}

/** What one member gives: bytes, or why it gives none. */
type Given = Buffer | string;

async function useOn(
  open: OpenGroup,
  member: Member,
  key: VirtualObject,
  operation: Operation<Buffer>,
  signal: AbortSignal,
): Promise<Given> {
  const standing = key.replicaStatus.get(member.name);
  if (standing === 'absent') return 'MISSING';
  if (standing === 'misaligned') return 'OTHER KEY';
  try {
    // A member that has no use for the call just now is waited for: no longer than an application would.
    const until = open.now() + open.group.policy.deadline;
    return await open.run(runCall(open.group, { ...operation, only: member }, until), signal);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return codeName(error.code);
  }
}

/** The public half, where the group has it: of the same label and id. */
async function publicHalfOf(open: OpenGroup, key: VirtualObject, until: number): Promise<VirtualObject | undefined> {
  const template = encodeTemplate('template', { class: CKO.publicKey, label: key.label, id: key.id } as never);
  const found = await open.run(findObjects(open.group, template, until));
  return found.length === 1 ? found[0] : undefined;
}

async function isSignature(open: OpenGroup, half: VirtualObject, signature: Buffer, until: number): Promise<boolean> {
  const mechanism = encodeMechanism('mechanism', 'ECDSA');
  return await open.run(runCall(open.group, verify(mechanism, half, TEXT, signature), until));
}

function judge(outcomes: readonly string[]): KeyTrial['result'] {
  if (outcomes.some((outcome) => outcome === 'DIFFERENT' || outcome === 'OTHER KEY')) return 'different';
  if (outcomes.every((outcome) => outcome === 'same')) return outcomes.length > 0 ? 'same' : 'untested';
  const isTold = outcomes.some((outcome) => outcome === 'same' || outcome === 'MISSING');
  return isTold || new Set(outcomes).size > 1 ? 'incomplete' : 'untested';
}

function mapValues(given: ReadonlyMap<string, Given>, judgeOne: (result: Buffer) => string): Record<string, string> {
  return Object.fromEntries(
    [...given].map(([name, result]) => [name, typeof result === 'string' ? result : judgeOne(result)]),
  );
}

/** Whether what each member signed is the same key's signature; `signed` where no public half tells. */
async function compareSignatures(
  open: OpenGroup,
  key: VirtualObject,
  given: ReadonlyMap<string, Given>,
  until: number,
): Promise<Record<string, string>> {
  const half = await publicHalfOf(open, key, until);
  const right = new Set<Buffer>();
  for (const result of given.values())
    if (half !== undefined && typeof result !== 'string' && (await isSignature(open, half, result, until)))
      right.add(result);
  // Without a CKA_ID, what fits no member's signature may be another key's half that goes by the same label.
  const tells = half !== undefined && (right.size > 0 || key.id.length > 0);
  return mapValues(given, (result) => (right.has(result) ? 'same' : tells ? 'DIFFERENT' : 'signed'));
}

/** Uses a key on each member that serves, alone, and compares what comes of it. */
export async function tryKey(
  open: OpenGroup,
  key: VirtualObject,
  until: number,
  signal: AbortSignal,
): Promise<KeyTrial> {
  const { handle, label, id } = key.summary;
  const serving = open.group.members.filter(({ isServing }) => isServing);
  const isEc = key.description.type === CKK.ec;
  await open.run(proveReplicas(open.group, [key], until), signal);
  let last: KeyTrial = { handle, label, id, way: '', result: 'untested', members: {} };
  for (const way of isEc ? [ecdsa] : (ways.get(key.description.type) ?? [])) {
    const given = new Map<string, Given>();
    for (const member of serving) given.set(member.name, await useOn(open, member, key, way.operation(key), signal));
    const results = [...given.values()].filter((each) => typeof each !== 'string');
    const members = isEc
      ? await compareSignatures(open, key, given, until)
      : mapValues(given, (result) => (result.equals(results[0] ?? result) ? 'same' : 'DIFFERENT'));
    last = {
      handle,
      label,
      id,
      way: way.name,
      result: judge(Object.values(members)),
      members,
    };
    // A key that may not be used like this on any member may be of use in another way.
    if (results.length > 0) return last;
  }
  return last;
}
