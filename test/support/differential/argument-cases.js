// Cases that call every method with too few and too many arguments, with each argument of a wrong kind, without a
// session, and before any operation. Arguments that make pkcs11js end the process are left out: a wrong value inside
// a template, an unknown CK_PARAMS type.
import { asynchronous, signatures } from './signatures.js';

/** Wrong values by kind of argument. */
const wrongBy = {
  slot: [undefined, null, 1, 'x', {}, Buffer.alloc(4), Buffer.alloc(9)],
  session: [undefined, null, 7, 'x', [], Buffer.alloc(0), Buffer.alloc(7)],
  object: [undefined, null, 7, 'x', {}, Buffer.alloc(12)],
  number: [undefined, null, 'x', {}, 5n],
  string: [undefined, null, 5, Buffer.from('x')],
  buffer: [undefined, null, 5, 'x', {}, [1, 2]],
  mechanism: [undefined, null, 5, 'x', {}, { mechanism: 'x' }, { mechanism: 1, parameter: 'x' }],
  template: [undefined, null, 5, {}, 'x'],
};

/** Returns arguments of the right kinds. */
function validArguments(tester, kinds, session) {
  const { p } = tester;
  const values = {
    slot: tester.slot,
    session,
    object: Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]),
    number: 1,
    string: '1234',
    buffer: Buffer.alloc(16, 1),
    mechanism: { mechanism: p.CKM_SHA256 },
    template: [{ type: p.CKA_LABEL, value: 'x' }],
  };
  return kinds.map((kind) => values[kind]);
}

const nobody = Buffer.from([0x77, 0x77, 0x77, 0x17, 0, 0, 0, 0]);

const ofEach = Object.entries(signatures).flatMap(([method, kinds]) => {
  const isAsync = asynchronous.includes(method);
  const made = [
    {
      name: `${method}: arity`,
      run(t) {
        const session = t.session();
        const args = validArguments(t, kinds, session);
        t.call(method);
        if (method !== 'C_FindObjects') t.call(method, ...args.slice(0, -1));
        t.call(method, ...args, undefined);
        t.call(method, ...args, undefined, undefined);
      },
    },
    {
      name: `${method}: kinds of arguments`,
      run(t) {
        const session = t.session();
        const args = validArguments(t, kinds, session);
        for (const [at, kind] of kinds.entries()) {
          for (const wrong of wrongBy[kind]) t.call(method, ...args.with(at, wrong));
        }
      },
    },
  ];
  if (kinds[0] === 'session') {
    made.push({
      name: `${method}: no such session`,
      run(t) {
        t.call(method, ...validArguments(t, kinds, nobody));
      },
    });
  }
  made.push({
    name: `${method}: without a library`,
    bare: true,
    run(t) {
      t.slot = nobody;
      const args = validArguments(t, kinds, nobody);
      t.call(method, ...args);
      t.call(method);
      if (isAsync) t.call(`${method}Callback`, ...args, () => {});
    },
  });
  if (isAsync) {
    made.push({
      name: `${method}: callbacks and promises`,
      async run(t) {
        const session = t.session();
        const args = validArguments(t, kinds, session);
        await t.callWith(method, ...args);
        await t.callAsync(method, ...args);
        await t.callAsync(method);
        t.call(`${method}Callback`, ...args);
        t.call(`${method}Callback`, ...args, 5);
        t.call(method, ...args, null);
        t.call(method, ...args, 'x');
      },
    });
  }
  return made;
});

export const argumentCases = [
  ...ofEach,
  {
    name: 'every method before C_Initialize',
    endsLibrary: true,
    run(t) {
      t.lib.C_Finalize();
      for (const [method, kinds] of Object.entries(signatures)) t.call(method, ...validArguments(t, kinds, nobody));
      t.call('C_Initialize');
    },
  },
];
