/** What a member is to be in this process, whatever its state is now. */
export class MemberRole {
  /** What it was promoted or demoted to; undefined where it is what the configuration says. */
  assigned: 'active' | 'standby' | undefined;
  /** Why it is not to be used any more: it left the group, or the configuration. */
  removedFor: string | undefined;
  /** True while it is being made a member: its token need not know the group yet. */
  isBeingAdded: boolean = false;
  /** Whether it has been in service in this process. */
  hasServed: boolean = false;
  /** Number of tasks that still need its host although it serves no more. */
  hostUsers: number = 0;

  assign(role: 'active' | 'standby'): void {
    this.assigned = role;
  }

  remove(reason: string): void {
    this.removedFor = reason;
  }

  beginAdding(): void {
    this.isBeingAdded = true;
  }

  endAdding(): void {
    this.isBeingAdded = false;
  }

  noteServed(): void {
    this.hasServed = true;
  }

  keepHost(): void {
    this.hostUsers += 1;
  }

  releaseHost(): void {
    this.hostUsers -= 1;
  }
}
