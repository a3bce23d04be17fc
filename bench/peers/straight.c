/*
 * Calls a PKCS#11 library from threads for some seconds, each thread with its own session:
 *
 *   straight MODULE THREADS SECONDS VERB LABEL CLASS MECHANISM PARAMETER SIZE
 *
 * VERB: 0 sign, 1 encrypt, 2 random, 3 digest. PARAMETER: none, iv or gcm. The PIN comes on standard input. Prints
 * operations, seconds and processor time (s), without the time for opening.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define NULL_PTR NULL
#include "../../native/host/pkcs11.h"

#define MOST_THREADS 16

enum verb { SIGN, ENCRYPT, RANDOM, DIGEST };

static CK_FUNCTION_LIST *library;
static enum verb verb;
static CK_MECHANISM mechanism;
static CK_OBJECT_HANDLE key;
static unsigned char *data;
static CK_ULONG size;
static double until;
static atomic_long operations;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double processor_time(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void check(CK_RV rv, const char *what) {
  if (rv == CKR_OK) return;
  fprintf(stderr, "%s returned 0x%lx\n", what, rv);
  exit(1);
}

static void call(CK_SESSION_HANDLE session, unsigned char *output, CK_ULONG room) {
  switch (verb) {
    case SIGN:
      check(library->C_SignInit(session, &mechanism, key), "C_SignInit");
      check(library->C_Sign(session, data, size, output, &room), "C_Sign");
      break;
    case ENCRYPT:
      check(library->C_EncryptInit(session, &mechanism, key), "C_EncryptInit");
      check(library->C_Encrypt(session, data, size, output, &room), "C_Encrypt");
      break;
    case RANDOM:
      check(library->C_GenerateRandom(session, output, 32), "C_GenerateRandom");
      break;
    case DIGEST:
      check(library->C_DigestInit(session, &mechanism), "C_DigestInit");
      check(library->C_Digest(session, data, size, output, &room), "C_Digest");
      break;
  }
}

static void *work(void *argument) {
  const CK_SESSION_HANDLE session = *(const CK_SESSION_HANDLE *)argument;
  unsigned char output[4096];
  long own = 0;
  while (now() < until) {
    call(session, output, sizeof output);
    ++own;
  }
  atomic_fetch_add(&operations, own);
  return NULL;
}

static void find_key(CK_SESSION_HANDLE session, char *label, CK_OBJECT_CLASS object_class) {
  CK_ATTRIBUTE template[] = {{CKA_LABEL, label, strlen(label)}, {CKA_CLASS, &object_class, sizeof object_class}};
  CK_ULONG count = 0;
  check(library->C_FindObjectsInit(session, template, 2), "C_FindObjectsInit");
  check(library->C_FindObjects(session, &key, 1, &count), "C_FindObjects");
  check(library->C_FindObjectsFinal(session), "C_FindObjectsFinal");
  if (count == 1) return;
  fprintf(stderr, "the token has no key %s\n", label);
  exit(1);
}

int main(int count, char **arguments) {
  if (count != 10) return 2;
  const int threads = atoi(arguments[2]);
  if (threads < 1 || threads > MOST_THREADS) return 2;
  verb = (enum verb)atoi(arguments[4]);
  mechanism.mechanism = strtoul(arguments[7], NULL, 10);
  size = strtoul(arguments[9], NULL, 10);
  data = malloc(size + 1);
  if (data == NULL) return 1;
  memset(data, 5, size);

  static unsigned char iv[16];
  static CK_GCM_PARAMS gcm;
  memset(iv, 1, sizeof iv);
  if (strcmp(arguments[8], "iv") == 0) {
    mechanism.pParameter = iv;
    mechanism.ulParameterLen = sizeof iv;
  } else if (strcmp(arguments[8], "gcm") == 0) {
    gcm.pIv = iv;
    gcm.ulIvLen = 12;
    gcm.ulIvBits = 96;
    gcm.ulTagBits = 128;
    mechanism.pParameter = &gcm;
    mechanism.ulParameterLen = sizeof gcm;
  }

  unsigned char pin[256];
  const ssize_t pin_size = read(STDIN_FILENO, pin, sizeof pin);
  if (pin_size < 0) return 1;
  void *handle = dlopen(arguments[1], RTLD_NOW);
  CK_C_GetFunctionList get = handle == NULL ? NULL : (CK_C_GetFunctionList)dlsym(handle, "C_GetFunctionList");
  if (get == NULL) return 1;
  check(get(&library), "C_GetFunctionList");
  CK_C_INITIALIZE_ARGS locking = {.flags = CKF_OS_LOCKING_OK};
  check(library->C_Initialize(&locking), "C_Initialize");
  CK_SLOT_ID slots[16];
  CK_ULONG slot_count = 16;
  check(library->C_GetSlotList(CK_TRUE, slots, &slot_count), "C_GetSlotList");
  CK_SESSION_HANDLE sessions[MOST_THREADS];
  for (int i = 0; i < threads; ++i) {
    const CK_FLAGS flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
    check(library->C_OpenSession(slots[0], flags, NULL, NULL, &sessions[i]), "C_OpenSession");
  }
  check(library->C_Login(sessions[0], CKU_USER, pin, (CK_ULONG)pin_size), "C_Login");
  if (verb == SIGN || verb == ENCRYPT) find_key(sessions[0], arguments[5], strtoul(arguments[6], NULL, 10));
  unsigned char warm[4096];
  call(sessions[0], warm, sizeof warm);

  const double used_before = processor_time();
  const double started = now();
  until = started + atof(arguments[3]);
  pthread_t workers[MOST_THREADS];
  for (int i = 0; i < threads; ++i) pthread_create(&workers[i], NULL, work, &sessions[i]);
  for (int i = 0; i < threads; ++i) pthread_join(workers[i], NULL);
  printf("%ld %.6f %.6f\n", atomic_load(&operations), now() - started, processor_time() - used_before);
  library->C_Finalize(NULL);
  free(data);
  return 0;
}
