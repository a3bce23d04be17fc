// Outages of a member: the beginning of each, and its end if an outage does not end by itself.
import { hostsOf } from '../lib/bed.js';

const hostOf = (token, name) => token.status().members.find((member) => member.name === name)?.pid;

/**
 * Outages. `begin` receives the bed, the token and the member's name, and returns the function that ends the outage.
 * `isFault`: the faulty module causes the outage, and logs each fault.
 */
export const outages = [
  {
    name: 'DEVICE_ERROR',
    isFault: true,
    what: 'C_Sign answers CKR_DEVICE_ERROR',
    begin: ({ bed }, name) => {
      bed.fault(name, 'C_Sign return=0x30');
      return () => bed.heal();
    },
  },
  {
    name: 'host killed',
    what: 'SIGKILL ends its host',
    begin: ({ token }, name) => {
      process.kill(hostOf(token, name), 'SIGKILL');
      return () => undefined;
    },
  },
  {
    name: 'host stopped',
    what: 'SIGSTOP stops its host',
    isSilent: true,
    begin: ({ token }, name) => {
      const pid = hostOf(token, name);
      process.kill(pid, 'SIGSTOP');
      // The host continues if the group has not replaced it yet.
      return () => hostsOf(token).includes(pid) && process.kill(pid, 'SIGCONT');
    },
  },
  {
    name: 'hang',
    isFault: true,
    what: 'its library does not return from C_Sign',
    isSilent: true,
    begin: ({ bed }, name) => {
      bed.fault(name, 'C_Sign hang');
      return () => bed.heal();
    },
  },
  {
    name: 'slow',
    isFault: true,
    what: 'C_Sign takes 20 times as long',
    isSlow: true,
    begin: ({ bed, slowness }, name) => {
      bed.fault(name, `C_Sign delay=${slowness}`);
      return () => bed.heal();
    },
  },
  {
    name: 'server killed',
    what: 'the p11-kit server of its token is killed, and started again a second later',
    isRemote: true,
    begin: async ({ bed }, name) => {
      const server = bed.servers.get(name);
      await server.kill();
      return () => server.start();
    },
  },
];
