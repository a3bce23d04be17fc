import { createRequire } from 'node:module';
import type { VirtualSession } from '../../core/sessions/virtual-session.js';
import type { VirtualSlot } from '../../core/sessions/virtual-slot.js';
import type { MechanismInfo } from '../../spec/calls.js';
import { CKF } from '../../spec/codes.js';
import { handleOf } from './handle.js';

const { version } = createRequire(import.meta.url)('#package') as { version: string };
const [major = 0, minor = 0] = version.split('.').map(Number);
const ours = { major, minor };

/** Value of CK_UNAVAILABLE_INFORMATION, for memory sizes: members may be of any size. */
const UNAVAILABLE = 0xffff_ffff_ffff_ffffn;
/** PIN lengths while no token is known (bytes). */
const PINS = { shortest: 4, longest: 255 };

/** Pads text with blanks to a size (bytes), as PKCS#11 does; never cuts a character apart. */
function padded(text: string, size: number): string {
  let cut = text;
  while (Buffer.byteLength(cut) > size) cut = [...cut].slice(0, -1).join('');
  return cut + ' '.repeat(size - Buffer.byteLength(cut));
}

/** Returns the result of C_GetInfo, section 5.4, with its keys in pkcs11js's order. */
export function moduleInfo(): object {
  return {
    cryptokiVersion: { major: 2, minor: 40 },
    manufacturerID: padded('pkcs11-ha', 32),
    flags: 0,
    libraryDescription: padded('Virtual slots over HSM groups', 32),
    libraryVersion: { ...ours },
  };
}

function versionOf(text: string): object {
  const [whole = 0, part = 0] = text.split('.').map(Number);
  return { major: whole, minor: part };
}

/** Returns the result of C_GetSlotInfo, section 5.5. */
export function slotInfo({ group, only, isTokenPresent }: VirtualSlot): object {
  const description = only === undefined ? `HA Virtual Card Slot ${group.label}` : `${only.name} of ${group.label}`;
  return {
    slotDescription: padded(description, 64),
    manufacturerID: padded('pkcs11-ha', 32),
    flags: isTokenPresent ? CKF.tokenPresent : 0,
    hardwareVersion: { ...ours },
    firmwareVersion: { ...ours },
  };
}

/** Returns the result of C_GetTokenInfo, section 5.5. A group's PIN limits hold on every member. */
export function tokenInfo(slot: VirtualSlot): object {
  const { group, sessions, only } = slot;
  const tokens = (only === undefined ? group.members : [only]).flatMap(({ token }) => token ?? []);
  const [token] = tokens;
  const readWrite = sessions.filter(({ isReadOnly }) => !isReadOnly).length;
  const identity =
    only === undefined
      ? { label: group.label, manufacturerID: 'pkcs11-ha', model: 'HA virtual token', serialNumber: group.serial }
      : { label: token?.label, manufacturerID: token?.manufacturerID, model: token?.model, serialNumber: only.serial };
  const common = CKF.rng | CKF.loginRequired | CKF.userPinInitialized | CKF.dualCryptoOperations | CKF.tokenInitialized;
  return {
    label: padded(identity.label ?? '', 32),
    manufacturerID: padded(identity.manufacturerID ?? '', 32),
    model: padded(identity.model ?? '', 16),
    serialNumber: padded(identity.serialNumber ?? '', 16),
    flags: only === undefined ? common : common | CKF.writeProtected,
    maxSessionCount: 0,
    sessionCount: sessions.length,
    maxRwSessionCount: 0,
    rwSessionCount: readWrite,
    maxPinLen: Math.min(PINS.longest, ...tokens.map(({ longestPin }) => longestPin)),
    minPinLen: tokens.length === 0 ? PINS.shortest : Math.max(...tokens.map(({ shortestPin }) => shortestPin)),
    hardwareVersion: only === undefined ? { ...ours } : versionOf(token?.hardwareVersion ?? ''),
    firmwareVersion: only === undefined ? { ...ours } : versionOf(token?.firmwareVersion ?? ''),
    utcTime: `${new Date().toISOString().replaceAll(/\D/gu, '').slice(0, 14)}00`,
    totalPublicMemory: UNAVAILABLE,
    freePublicMemory: UNAVAILABLE,
    totalPrivateMemory: UNAVAILABLE,
    freePrivateMemory: UNAVAILABLE,
  };
}

/** Returns the result of C_GetMechanismInfo, section 5.5. */
export function mechanismInfo({ shortestKey, longestKey, flags }: MechanismInfo): object {
  return { minKeySize: shortestKey >>> 0, maxKeySize: longestKey >>> 0, flags: flags >>> 0 };
}

/** Returns the result of C_GetSessionInfo, section 5.6. */
export function sessionInfo(session: VirtualSession): object {
  return { slotID: handleOf(session.slot.id), state: session.state, flags: session.flags, deviceError: 0 };
}
