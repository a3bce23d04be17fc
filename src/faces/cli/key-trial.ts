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

/** Ways to use a key that give the same result each time, by key type; the first way that works is taken. */
const ways: ReadonlyMap<number, readonly Way[]> = new Map([
  [CKK.aes, [ciphering('AES-ECB', 'AES_ECB'), signing('AES-CMAC', 'AES_CMAC')]],
  [CKK.des3, [ciphering('DES3-ECB', 'DES3_ECB')]],
  [CKK.rsa, [signing('RSA PKCS #1', 'SHA256_RSA_PKCS')]],
  [CKK.genericSecret, [signing('HMAC-SHA256', 'SHA256_HMAC')]],
  [CKK.ecEdwards, [signing('EdDSA', 'EDDSA')]],
]);

/** Way to use an EC key. ECDSA signatures differ each time, so the public half verifies them. */
const ecdsa = signing('ECDSA', 'ECDSA');

/** Results of using a key on each member alone. */
export interface KeyTrial {
  readonly handle: number;
  readonly label: string;
  readonly id: string;
  /** Name of the way in which the key was used; empty if there is none for its type. */
  readonly way: string;
  /**
   * Comparison of the members. `incomplete`: some members could use the key and others could not; `untested`: no member
   * could, or the results cannot be compared.
   */
  readonly result: 'same' | 'different' | 'incomplete' | 'untested';
  readonly members: Readonly<Record<string, string>>;
}

/** Result of one member: bytes, or the reason for having none. */
type Given = Buffer | string;

async function useOn(
  open: OpenGroup,
  member: Member,
  key: VirtualObject,
  operation: Operation<Buffer>,
  signal: AbortSignal,
): Promise<Given> {
  const status = key.replicaStatus.get(member.name);
  if (status === 'absent') return 'MISSING';
  if (status === 'misaligned') return 'OTHER KEY';
  try {
    // Waits for a busy member no longer than an application would.
    const until = open.now() + open.group.policy.deadline;
    return await open.run(runCall(open.group, { ...operation, only: member }, until), signal);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return codeName(error.code);
  }
}

/** Finds the public half of a key pair by its label and id; undefined if there is none, or several. */
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

/** Tells for each member whether its signature is the same key's; `signed` if no public half can tell. */
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
  // Without a CKA_ID, a half that verifies no signature may belong to another key of the same label.
  const tells = half !== undefined && (right.size > 0 || key.id.length > 0);
  return mapValues(given, (result) => (right.has(result) ? 'same' : tells ? 'DIFFERENT' : 'signed'));
}

/** Uses a key on each serving member alone, and compares the results. */
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
    // If no member could use the key in this way, tries the next one.
    if (results.length > 0) return last;
  }
  return last;
}
