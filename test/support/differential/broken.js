// Breaks the class on purpose, so that a test can see that the comparison notices.

export function breakOnPurpose({ PKCS11, Pkcs11Error }, how) {
  const { prototype } = PKCS11;
  if (how === 'verify is always true') {
    const { C_Verify } = prototype;
    prototype.C_Verify = function (...args) {
      try {
        return C_Verify.apply(this, args);
      } catch (error) {
        if (error.code === 0xc0) return true;
        throw error;
      }
    };
  } else if (how === 'another error code') {
    const { C_SignInit } = prototype;
    prototype.C_SignInit = function (...args) {
      try {
        return C_SignInit.apply(this, args);
      } catch (error) {
        if (error.code === 0x90) throw new Pkcs11Error('CKR_FUNCTION_FAILED', 6, 'C_SignInit');
        throw error;
      }
    };
  } else throw new Error(`nothing to break: ${how}`);
}
