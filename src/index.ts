// biome-ignore lint/style/noDefaultExport: replaces pkcs11js, which has a default export
export { everything as default, everything as 'module.exports' } from './commonjs.js';
export type { Existing, FormationReport } from './core/administration/create-group.js';
export type { Difference, DifferenceKind } from './core/administration/difference-repair.js';
export type { RekeyReport } from './core/administration/rekey-group.js';
export type { RemovalReport } from './core/administration/remove-member.js';
export type { SigningReport } from './core/administration/sign-group.js';
export type { SynchronizationReport } from './core/administration/synchronization.js';
export type { UpgradeReport } from './core/administration/upgrade-group.js';
export type { BackupReport } from './core/backup/backup.js';
export type { RestoreReport } from './core/backup/restore.js';
export { TokenError, UnknownOutcomeError } from './core/base/error.js';
export type {
  AttemptRecord,
  ConfigurationEvent,
  CoordinationEvent,
  FailoverEvent,
  MemberEvent,
  MembershipEvent,
  MisalignedEvent,
  MissingEvent,
  ObjectSummary,
  OutputEvent,
  PinEvent,
  ProgressEvent,
  RecordsEvent,
  SyncEvent,
} from './core/base/event.js';
export type { StateName } from './core/base/state.js';
export type {
  Balance,
  GroupConfigInput,
  MemberConfig,
  MemberInput,
  NonExtractable,
  PinReference,
  TokenSelector,
} from './core/configuration/configuration.js';
export { ConfigurationError } from './core/configuration/validation.js';
export type { Outcome } from './core/group/outcomes.js';
export type { ReplicaStatus as Standing } from './core/objects/object.js';
export type { PinReport } from './core/pin/pin-change.js';
export type { DriftStatus, GroupStatus, MemberStatus } from './core/status/status.js';
export type { KeyTravel as Travel } from './core/wrapping/wrap-probe.js';
export { PKCS11 } from './faces/pkcs11js/index.js';
export type {
  AddMemberOptions,
  BackupOptions,
  BackupTokenInput,
  ChangePinOptions,
  PinInput,
  RemoveMemberOptions,
  SynchronizeOptions,
} from './faces/token/administration-options.js';
export type { CallOptions } from './faces/token/input.js';
export { type ObjectInput, TokenObject } from './faces/token/object.js';
export { type Data, type OpenOptions, VirtualToken } from './faces/token/virtual-token.js';
export type { ConfigurationSource } from './runtime/groups/configuration-source.js';
export { createGroup, deleteGroup, type FormationOptions, undrainMember } from './runtime/groups/create-group.js';
export { type SigningOptions, signGroup } from './runtime/groups/sign-group.js';
export { PinError } from './runtime/secrets/pin-source.js';
export { type AdministrationKeyPair, generateAdministrationKey } from './runtime/trust/administration-key.js';
export type { AttributeValue } from './spec/attribute.js';
export { InputError } from './spec/input.js';
export type { MechanismInput, NamedMechanism, RawMechanism } from './spec/mechanism.js';
export type { FriendlyTemplate, RawTemplate, Template } from './spec/template.js';
