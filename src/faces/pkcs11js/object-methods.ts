import { TokenError } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import { runCall } from '../../core/call/call.js';
import { checkClass, findKey } from '../../core/call/lookup.js';
import { readObject } from '../../core/call/reading.js';
import {
  type CreationRequest,
  requestCopy,
  requestCreate,
  requestDerive,
  requestGenerate,
  requestGeneratePair,
  requestUnwrap,
} from '../../core/jobs/creation-request.js';
import { sizeOf, wrapKey } from '../../core/jobs/operation.js';
import type { VirtualObject } from '../../core/objects/object.js';
import { CKO, CKR } from '../../spec/codes.js';
import { handlesIn, type Mechanism } from '../../spec/mechanism.js';
import { handleIn, type Kinds } from './arguments.js';
import { handleOf } from './handle.js';
import { type Method, onSession, onSessionNow, type SessionCall } from './methods.js';

function* create({ session, deadline }: SessionCall, creation: CreationRequest): Task<Buffer> {
  const [object] = yield* session.create(creation, deadline);
  if (object === undefined) throw new Error(`${creation.function} created no object`);
  return handleOf(object.handle);
}

/** Finds the objects that a mechanism's parameter names by their handles. */
function* namedBy({ open, deadline }: SessionCall, mechanism: Mechanism, functionName: string): Task<VirtualObject[]> {
  const objects: VirtualObject[] = [];
  for (const bytes of handlesIn(mechanism)) {
    const handle = handleIn(bytes);
    objects.push(yield* findKey(open.group, handle, CKR.mechanismParamInvalid, functionName, deadline));
  }
  return objects;
}

function* copy(call: SessionCall, handle: number, template: Kinds['template']): Task<Buffer> {
  const { open, deadline } = call;
  const source = yield* findKey(open.group, handle, CKR.objectHandleInvalid, 'C_CopyObject', deadline);
  return yield* create(call, requestCopy(source, template));
}

function* unwrap(
  call: SessionCall,
  mechanism: Mechanism,
  handle: number,
  wrapped: Uint8Array,
  template: Kinds['template'],
): Task<Buffer> {
  const { open, deadline } = call;
  const key = yield* findKey(open.group, handle, CKR.unwrappingKeyHandleInvalid, 'C_UnwrapKey', deadline);
  checkClass('C_UnwrapKey', key, [CKO.secretKey, CKO.privateKey], CKR.unwrappingKeyTypeInconsistent);
  const named = yield* namedBy(call, mechanism, 'C_UnwrapKey');
  return yield* create(call, requestUnwrap(mechanism, key, wrapped, template, named));
}

function* derive(call: SessionCall, mechanism: Mechanism, handle: number, template: Kinds['template']): Task<Buffer> {
  const { open, deadline } = call;
  const key = yield* findKey(open.group, handle, CKR.keyHandleInvalid, 'C_DeriveKey', deadline);
  checkClass('C_DeriveKey', key, [CKO.secretKey, CKO.privateKey], CKR.keyTypeInconsistent);
  const named = yield* namedBy(call, mechanism, 'C_DeriveKey');
  return yield* create(call, requestDerive(mechanism, key, template, named));
}

function* wrap(
  call: SessionCall,
  mechanism: Mechanism,
  wrapping: number,
  handle: number,
  output: Uint8Array,
): Task<Buffer> {
  const { open, slot, deadline } = call;
  const by = yield* findKey(open.group, wrapping, CKR.wrappingKeyHandleInvalid, 'C_WrapKey', deadline);
  checkClass('C_WrapKey', by, [CKO.secretKey, CKO.publicKey], CKR.wrappingKeyTypeInconsistent);
  const of = yield* findKey(open.group, handle, CKR.keyHandleInvalid, 'C_WrapKey', deadline);
  checkClass('C_WrapKey', of, [CKO.secretKey, CKO.privateKey], CKR.keyNotWrappable);
  const named = yield* namedBy(call, mechanism, 'C_WrapKey');
  const result = yield* runCall(open.group, { ...wrapKey(mechanism, by, of, named), only: slot.only }, deadline);
  if (output.length > 0 && result.length > output.length)
    throw new TokenError(CKR.bufferTooSmall, 'C_WrapKey', `${result.length} bytes needed`);
  return result;
}

/** Reads attributes into the application's own array: all values or none. */
function* read(
  { open, slot, deadline }: SessionCall,
  handle: number,
  { own, wanted }: Kinds['attributes'],
): Task<unknown> {
  const name = 'C_GetAttributeValue';
  const object = yield* findKey(open.group, handle, CKR.objectHandleInvalid, name, deadline);
  const types = wanted.map(({ type }) => type);
  const values = types.length === 0 ? [] : yield* readObject(open.group, object, types, deadline, slot.only);
  for (const [presence, code] of [
    ['sensitive', CKR.attributeSensitive],
    ['invalid', CKR.attributeTypeInvalid],
  ] as const) {
    if (values.some((value) => value.presence === presence)) throw new TokenError(code, name, '');
  }
  const isTooSmall = wanted.some(({ value }, at) => value.length > 0 && value.length < (values[at]?.value.length ?? 0));
  if (isTooSmall) throw new TokenError(CKR.bufferTooSmall, name, '');
  for (const [at, element] of own.entries()) element.value = Buffer.from(values[at]?.value ?? []);
  return own;
}

function* readSize({ open, slot, deadline }: SessionCall, handle: number): Task<number> {
  const object = yield* findKey(open.group, handle, CKR.objectHandleInvalid, 'C_GetObjectSize', deadline);
  return Math.min(yield* runCall(open.group, { ...sizeOf(object), only: slot.only }, deadline), 0xffff_ffff);
}

/** Methods of sections 5.7 and 5.13. */
export const objectMethods: Readonly<Record<string, Method>> = {
  C_CreateObject: onSession(['template'], (call, template) => create(call, requestCreate(template))),
  C_CopyObject: onSession(['handle', 'template'], copy),
  C_DestroyObject: onSession(['handle'], ({ session, deadline }, object) => session.destroy(object, deadline)),
  C_GetObjectSize: onSession(['handle'], readSize),
  C_GetAttributeValue: onSession(['handle', 'attributes'], read),
  C_SetAttributeValue: onSession(['handle', 'template'], ({ session, deadline }, object, template) =>
    session.setAttributes(object, template, deadline),
  ),
  C_FindObjectsInit: onSession(['template'], ({ session, deadline }, template) =>
    session.beginSearch(template, deadline),
  ),
  C_FindObjects: onSessionNow(['ulong'], ({ session }, most) => session.nextFound(most).map(handleOf)),
  C_FindObjectsFinal: onSessionNow([], ({ session }) => session.endSearch()),
  C_GenerateKey: onSession(
    ['mechanism', 'template'],
    (call, mechanism, template) => create(call, requestGenerate(mechanism, template)),
    { isAsync: true },
  ),
  C_GenerateKeyPair: onSession(
    ['mechanism', 'template', 'template'],
    function* ({ session, deadline }, mechanism, ofPublic, ofPrivate) {
      const [publicKey, privateKey] = yield* session.create(
        requestGeneratePair(mechanism, ofPublic, ofPrivate),
        deadline,
      );
      if (publicKey === undefined || privateKey === undefined) throw new Error('C_GenerateKeyPair created no pair');
      return { privateKey: handleOf(privateKey.handle), publicKey: handleOf(publicKey.handle) };
    },
    { isAsync: true },
  ),
  C_WrapKey: onSession(['mechanism', 'handle', 'handle', 'output'], wrap, {
    isAsync: true,
    output: 4,
    mayNameObjects: true,
  }),
  C_UnwrapKey: onSession(['mechanism', 'handle', 'bytes', 'template'], unwrap, {
    isAsync: true,
    mayNameObjects: true,
  }),
  C_DeriveKey: onSession(['mechanism', 'handle', 'template'], derive, { isAsync: true, mayNameObjects: true }),
};
