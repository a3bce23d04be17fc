// Gives each worker of jest lock folders of its own: all groups of one label on a machine share one.
import { join } from 'node:path';

process.env.PKCS11_HA_LOCKS = join(process.env.PKCS11_HA_TEST_RUN, `locks-${process.env.JEST_WORKER_ID}`);
