import { join } from 'node:path';

// Each worker of jest has lock folders of its own: all groups of one label on a machine share one.
process.env.PKCS11_HA_LOCKS = join(process.env.PKCS11_HA_TEST_RUN, `locks-${process.env.JEST_WORKER_ID}`);

// Administration keys of groups that name none: all files of a run share the groups that are copied.
process.env.XDG_CONFIG_HOME = join(process.env.PKCS11_HA_TEST_RUN, 'config');
