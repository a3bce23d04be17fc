/** Role of a member in this process: what the member is to be, whatever its state is now. */
export class MemberRole {
  /** State that the member was promoted or demoted to; undefined: as configured. */
  assigned: 'active' | 'standby' | undefined;
  /** Reason for the member's removal from the group or the configuration; undefined for a member of both. */
  removedFor: string | undefined;
  /** True while the member is being added: the group record need not name its token yet. */
  isBeingAdded: boolean = false;
  /** True once the group record has named the token of a member that is being added. */
  isAdmitted: boolean = false;
  /** True if the member has served in this process. */
  hasServed: boolean = false;
  /** Number of tasks that still need the host of a drained member. */
  hostUsers: number = 0;

  /** Promotes or demotes the member. */
  assign(role: 'active' | 'standby'): void {
    this.assigned = role;
  }

  /** Removes the member, with the reason. */
  remove(reason: string): void {
    this.removedFor = reason;
  }

  /** Begins to add the member's token to the group. */
  beginAdding(): void {
    this.isBeingAdded = true;
  }

  /** Notes that the group record names the token of the member that is being added. */
  noteAdmitted(): void {
    this.isAdmitted = true;
  }

  /** Ends the addition. */
  endAdding(): void {
    this.isBeingAdded = false;
    this.isAdmitted = false;
  }

  /** Notes that the member has served. */
  noteServed(): void {
    this.hasServed = true;
  }

  /** Keeps the host until `releaseHost`. */
  keepHost(): void {
    this.hostUsers += 1;
  }

  /** Releases the host. */
  releaseHost(): void {
    this.hostUsers -= 1;
  }
}
