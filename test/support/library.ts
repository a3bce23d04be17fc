import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Member } from '../../src/core/group/member.js';
import pkcs11, { PKCS11 } from '../../src/faces/pkcs11js/index.js';
import { Library } from '../../src/faces/pkcs11js/library.js';
import type { GroupConfigInput } from '../../src/index.js';
import type { Cluster } from './cluster.js';
import { until } from './waiting.js';

/** Handle as pkcs11js's class gives it. */
export type Handle = Buffer;

/** State of a read/write session without login (CKS_RW_PUBLIC_SESSION), which pkcs11js does not name. */
const RW_PUBLIC_SESSION = 2;

let count = 0;

/** Instance of pkcs11js's class on a group of a cluster, with access to the group behind it. */
export class LoadedGroup {
  readonly lib: PKCS11 = new PKCS11();
  readonly path: string;
  readonly #library: Library;

  constructor(
    readonly cluster: Cluster,
    configuration: GroupConfigInput = cluster.configuration(),
  ) {
    count += 1;
    this.path = join(cluster.folder.path, `group${count}.yaml`);
    writeFileSync(this.path, JSON.stringify(configuration));
    this.lib.load(this.path);
    this.#library = Library.load(this.path);
    this.lib.C_Initialize();
  }

  get pin(): string {
    return this.cluster.members[0]?.hsm.pin ?? '';
  }

  get slot(): Handle {
    const [slot] = this.lib.C_GetSlotList(true);
    if (slot === undefined) throw new Error('no slot');
    return slot;
  }

  /** Opens a read/write session; logs in unless told otherwise. */
  session(login = true): Handle {
    const session = this.lib.C_OpenSession(this.slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
    if (login && this.lib.C_GetSessionInfo(session).state === RW_PUBLIC_SESSION)
      this.lib.C_Login(session, pkcs11.CKU_USER, this.pin);
    return session;
  }

  /** Finds one object by its label; throws if there is none. */
  find(session: Handle, label: string, objectClass?: number): Handle {
    const template: { type: number; value: string | number }[] = [{ type: pkcs11.CKA_LABEL, value: label }];
    if (objectClass !== undefined) template.push({ type: pkcs11.CKA_CLASS, value: objectClass });
    this.lib.C_FindObjectsInit(session, template);
    const found = this.lib.C_FindObjects(session);
    this.lib.C_FindObjectsFinal(session);
    if (found === null) throw new Error(`no ${label}`);
    return found;
  }

  /** Returns the group's member; throws if there is none of that name. */
  member(name: string): Member {
    const found = this.#library.slots[0]?.open.group.members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`no member ${name}`);
    return found;
  }

  /** Ends a member's host with a signal; SIGKILL for a member without a host does nothing, since that host is gone. */
  kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): void {
    const pid = this.member(name).connection?.pid;
    if (pid !== undefined) process.kill(pid, signal);
    else if (signal !== 'SIGKILL') throw new Error(`${name} has no host`);
  }

  /** Waits until all members are active at the same time: one may be lost again while another comes back. */
  async untilActive(): Promise<void> {
    const names = this.cluster.members.map(({ name }) => name);
    const states = (): string => names.map((name) => `${name} ${this.member(name).state.name}`).join(', ');
    await until(
      () => names.every((name) => this.member(name).isActive),
      () => `all are active: ${states()}`,
    );
  }

  /** Finalizes and unloads the library. */
  close(): void {
    try {
      this.lib.C_Finalize();
    } catch {
      // Ignores that a test has finalized the library.
    }
    this.#library.unload();
    this.lib.close();
  }
}
