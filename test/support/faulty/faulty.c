/*
 * PKCS#11 module that wraps another module and injects faults on demand.
 *
 *   FAULTY_MODULE    path of the wrapped module
 *   FAULTY_CONTROL   file of rules, one a line, read again whenever it changes:
 *
 *     FUNCTION ACTION [times=N] [skip=N] [data=HEX] [when=after]
 *
 *     FUNCTION   C_Sign, or * for every function, or writes for all functions that change the token
 *     ACTION     return=CODE | delay=MS | hang | crash | exit=CODE | drop | shuffle | trace | print=LINES | orphan | peek
 *     times      number of strikes in one process; without it the rule always strikes
 *     skip       number of matching calls that pass before the first strike
 *     data       strikes only if the input begins with these bytes; the input of C_WrapKey is its mechanism
 *     when       after: the module makes the call first, then the fault follows
 *
 *   FAULTY_LOG       file that gets a line "PID FUNCTION ACTION" for every strike
 *
 * hang lasts until the rule is gone from the file. exit registers an exit handler that never returns. drop closes all
 * sessions of the token and then makes the call. orphan kills the application that the host belongs to, and the host.
 * shuffle gives objects other handles in every process, so that a stale handle is another object's. trace does nothing
 * but write the line. peek writes to the log what it can do of the things in FAULTY_PEEK, which are parted by colons:
 * "read PATH", "write PATH", "signal PID", and on this machine "connect PORT", "mptcp PORT", "fastopen PORT" and
 * "listen 0", on a port that the kernel chooses.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NULL_PTR NULL
#include "../../../native/host/pkcs11.h"

enum action { RETURN, DELAY, HANG, CRASH, EXIT, DROP, SHUFFLE, TRACE, PRINT, ORPHAN, PEEK };
static const char *const action_names[] = {"return", "delay", "hang", "crash", "exit", "drop", "shuffle", "trace", "print", "orphan", "peek"};

struct rule {
  char function[40];
  enum action action;
  unsigned long value;
  long times, skip;
  unsigned char data[32];
  size_t data_len;
  int after;
};

#define MOST_RULES 64
static struct rule rules[MOST_RULES];
static int rule_count;
static struct timespec read_at;
static off_t read_size = -1;
static ino_t read_inode;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST wrapped;
static CK_SLOT_ID last_slot;

/* Returns the action of a name; aborts for an unknown one, since the test would pass without its fault. */
static enum action action_of(const char *word) {
  for (size_t i = 0; i < sizeof action_names / sizeof *action_names; ++i)
    if (strcmp(word, action_names[i]) == 0) return (enum action)i;
  fprintf(stderr, "faulty: %s is no action\n", word);
  abort();
}

static unsigned long number_of(const char *value) {
  char *end = NULL;
  const unsigned long number = strtoul(value, &end, 0);
  if (end != value && *end == '\0') return number;
  fprintf(stderr, "faulty: %s is no number\n", value);
  abort();
}

static void parse_rule(char *line) {
  struct rule rule = {.times = -1};
  char *save = NULL, *word = strtok_r(line, " \t\n", &save);
  if (word == NULL || word[0] == '#' || rule_count == MOST_RULES) return;
  snprintf(rule.function, sizeof rule.function, "%s", word);
  while ((word = strtok_r(NULL, " \t\n", &save)) != NULL) {
    char *value = strchr(word, '=');
    if (value != NULL) *value++ = '\0';
    if (strcmp(word, "times") == 0 && value) rule.times = atol(value);
    else if (strcmp(word, "skip") == 0 && value) rule.skip = atol(value);
    else if (strcmp(word, "when") == 0 && value) rule.after = strcmp(value, "after") == 0;
    else if (strcmp(word, "data") == 0 && value) {
      for (; value[0] && value[1] && rule.data_len < sizeof rule.data; value += 2) {
        unsigned byte = 0;
        sscanf(value, "%2x", &byte);
        rule.data[rule.data_len++] = (unsigned char)byte;
      }
    } else {
      rule.action = action_of(word);
      rule.value = value ? number_of(value) : 0;
    }
  }
  rules[rule_count++] = rule;
}

/* Reads the rules again if the file has changed. */
static void refresh(void) {
  const char *path = getenv("FAULTY_CONTROL");
  struct stat info;
  if (path == NULL || stat(path, &info) != 0) {
    rule_count = 0;
    read_size = -1;
    return;
  }
  if (info.st_size == read_size && info.st_ino == read_inode && info.st_mtim.tv_sec == read_at.tv_sec &&
      info.st_mtim.tv_nsec == read_at.tv_nsec)
    return;
  FILE *file = fopen(path, "re");
  if (file == NULL) return;
  rule_count = 0;
  char line[512];
  while (fgets(line, sizeof line, file) != NULL) parse_rule(line);
  fclose(file);
  read_size = info.st_size;
  read_inode = info.st_ino;
  read_at = info.st_mtim;
}

static int is_write(const char *function) {
  static const char *const writes[] = {"C_CreateObject", "C_CopyObject",        "C_DestroyObject", "C_SetAttributeValue",
                                       "C_GenerateKey",  "C_GenerateKeyPair",   "C_UnwrapKey",     "C_DeriveKey",
                                       "C_SetPIN",       "C_InitPIN",           "C_InitToken"};
  for (size_t i = 0; i < sizeof writes / sizeof *writes; i++)
    if (strcmp(function, writes[i]) == 0) return 1;
  return 0;
}

static int concerns(const struct rule *rule, const char *function) {
  if (strcmp(rule->function, "writes") == 0) return is_write(function);
  return strcmp(rule->function, "*") == 0 || strcmp(rule->function, function) == 0;
}

static int matches(const struct rule *rule, const char *function, const unsigned char *data, size_t size, int after) {
  if (rule->after != after || rule->action == SHUFFLE) return 0;
  if (!concerns(rule, function)) return 0;
  return rule->data_len == 0 || (data != NULL && size >= rule->data_len && memcmp(data, rule->data, rule->data_len) == 0);
}

/* Writes a line to the log. */
static void tell(const char *line) {
  const char *path = getenv("FAULTY_LOG");
  const int fd = path == NULL ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return;
  if (write(fd, line, strlen(line)) < 0) { /* Ignored: the test misses the line. */ }
  close(fd);
}

static void note(const char *function, enum action action) {
  char line[128];
  snprintf(line, sizeof line, "%d %s %s\n", (int)getpid(), function, action_names[action]);
  tell(line);
}

/* Tries to reach a TCP port of this machine, or to listen. */
static int reach(const char *way, unsigned long port) {
  const int mptcp = 262;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, strcmp(way, "mptcp") == 0 ? mptcp : 0);
  if (fd < 0) return -1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int result;
  if (strcmp(way, "listen") == 0) result = listen(fd, 1);
  else if (strcmp(way, "fastopen") == 0)
    result = (int)sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&address, sizeof address);
  else result = connect(fd, (struct sockaddr *)&address, sizeof address);
  const int error = errno;
  close(fd);
  errno = error;
  return result;
}

/* Tries what FAULTY_PEEK names, and tells what came of it. */
static void peek(void) {
  char things[2048], line[2200];
  snprintf(things, sizeof things, "%s", getenv("FAULTY_PEEK") == NULL ? "" : getenv("FAULTY_PEEK"));
  char *rest = NULL;
  for (char *thing = strtok_r(things, ":", &rest); thing != NULL; thing = strtok_r(NULL, ":", &rest)) {
    const char *what = strchr(thing, ' ') == NULL ? "" : strchr(thing, ' ') + 1;
    int result = -1;
    errno = 0;
    if (strncmp(thing, "read ", 5) == 0) result = open(what, O_RDONLY | O_CLOEXEC);
    if (strncmp(thing, "write ", 6) == 0) result = open(what, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (result >= 0) close(result);
    char way[16] = "";
    sscanf(thing, "%15s", way);
    if (strcmp(way, "connect") == 0 || strcmp(way, "mptcp") == 0 || strcmp(way, "fastopen") == 0 ||
        strcmp(way, "listen") == 0)
      result = reach(way, strtoul(what, NULL, 10));
    if (strncmp(thing, "signal ", 7) == 0) result = kill((pid_t)strtol(what, NULL, 10), 0);
    snprintf(line, sizeof line, "%s: %s\n", thing, result >= 0 ? "done" : strerror(errno));
    tell(line);
  }
}

/* Copies the first rule that strikes; returns 0 if none does. */
static int strike(const char *function, const unsigned char *data, size_t size, int after, struct rule *struck) {
  int found = 0;
  pthread_mutex_lock(&lock);
  refresh();
  for (int i = 0; i < rule_count && !found; ++i) {
    struct rule *rule = &rules[i];
    if (!matches(rule, function, data, size, after) || rule->times == 0) continue;
    if (rule->skip > 0) {
      --rule->skip;
      continue;
    }
    if (rule->times > 0) --rule->times;
    *struck = *rule;
    note(function, rule->action);
    found = rule->action != TRACE;
  }
  pthread_mutex_unlock(&lock);
  return found;
}

static void sleep_ms(unsigned long ms) {
  const struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  nanosleep(&time, NULL);
}

/* Stands for destructors that wait for a thread which is gone, or that free what another thread uses. */
static void hang_at_exit(void) {
  for (;;) pause();
}

static int still_there(const struct rule *rule) {
  int found = 0;
  pthread_mutex_lock(&lock);
  refresh();
  for (int i = 0; i < rule_count; ++i) {
    if (rules[i].action == rule->action && strcmp(rules[i].function, rule->function) == 0) found = 1;
  }
  pthread_mutex_unlock(&lock);
  return found;
}

/* Carries out the fault; returns 1 if the call ends with *rv. */
static int harm(const char *function, const unsigned char *data, size_t size, int after, CK_RV *rv) {
  struct rule rule;
  if (!strike(function, data, size, after, &rule)) return 0;
  switch (rule.action) {
    case RETURN:
      *rv = rule.value;
      return 1;
    case DELAY:
      sleep_ms(rule.value);
      return 0;
    case HANG:
      while (still_there(&rule)) sleep_ms(5);
      return 0;
    case CRASH:
      raise(SIGSEGV);
      return 0;
    case EXIT:
      atexit(hang_at_exit);
      exit((int)rule.value);
    case PRINT:
      for (unsigned long line = 0; line < rule.value; ++line) {
        printf("the library says something on standard output, line %lu\n", line);
        fprintf(stderr, "the library says something on standard error, line %lu\n", line);
      }
      fflush(stdout);
      return 0;
    case ORPHAN:
      kill(getppid(), SIGKILL);
      /* Ends too, since the host would only wait for its own end here. */
      _exit(0);
    case PEEK:
      peek();
      return 0;
    case DROP:
      real->C_CloseAllSessions(last_slot);
      return 0;
    default:
      return 0;
  }
}

/* Converts a handle between the module's and the application's form; the mask is its own inverse. */
static CK_OBJECT_HANDLE masked(CK_OBJECT_HANDLE handle) {
  static atomic_ulong mask;
  if (handle == CK_INVALID_HANDLE) return handle;
  unsigned long value = atomic_load(&mask);
  if (value == 0) {
    pthread_mutex_lock(&lock);
    refresh();
    value = 1ul << 32;
    for (int i = 0; i < rule_count; ++i) {
      /* Changes low bits only, so that a handle of this process is another object's in the next process. */
      if (rules[i].action == SHUFFLE) value |= (unsigned long)(getpid() % 7 + 1);
    }
    atomic_store(&mask, value);
    pthread_mutex_unlock(&lock);
  }
  value &= ~(1ul << 32);
  const CK_OBJECT_HANDLE result = handle ^ value;
  return result == CK_INVALID_HANDLE ? handle : result;
}

#define WRAP(name, parameters, arguments, data, size)                          \
  static CK_RV faulty_##name parameters {                                      \
    CK_RV rv;                                                                  \
    if (harm(#name, data, size, 0, &rv)) return rv;                            \
    rv = real->name arguments;                                                 \
    CK_RV other;                                                               \
    return harm(#name, data, size, 1, &other) ? other : rv;                    \
  }

/* Wraps a function that gives one new object. */
#define WRAP_NEW(name, parameters, arguments, object)                          \
  static CK_RV faulty_##name parameters {                                      \
    CK_RV rv;                                                                  \
    if (harm(#name, NULL, 0, 0, &rv)) return rv;                               \
    rv = real->name arguments;                                                 \
    if (rv == CKR_OK && object != NULL) *object = masked(*object);             \
    CK_RV other;                                                               \
    return harm(#name, NULL, 0, 1, &other) ? other : rv;                       \
  }

typedef CK_SESSION_HANDLE S;
typedef CK_OBJECT_HANDLE O;
typedef CK_MECHANISM_PTR M;
typedef CK_ATTRIBUTE_PTR A;
typedef CK_BYTE_PTR B;
typedef CK_ULONG N;
typedef CK_ULONG_PTR P;

WRAP(C_Initialize, (CK_VOID_PTR a), (a), NULL, 0)
WRAP(C_Finalize, (CK_VOID_PTR a), (a), NULL, 0)
WRAP(C_GetInfo, (CK_INFO_PTR i), (i), NULL, 0)
WRAP(C_GetSlotList, (CK_BBOOL t, CK_SLOT_ID_PTR l, P n), (t, l, n), NULL, 0)
WRAP(C_GetSlotInfo, (CK_SLOT_ID s, CK_SLOT_INFO_PTR i), (s, i), NULL, 0)
WRAP(C_GetTokenInfo, (CK_SLOT_ID s, CK_TOKEN_INFO_PTR i), (s, i), NULL, 0)
WRAP(C_GetMechanismList, (CK_SLOT_ID s, CK_MECHANISM_TYPE_PTR l, P n), (s, l, n), NULL, 0)
WRAP(C_GetMechanismInfo, (CK_SLOT_ID s, CK_MECHANISM_TYPE t, CK_MECHANISM_INFO_PTR i), (s, t, i), NULL, 0)
WRAP(C_InitToken, (CK_SLOT_ID s, B p, N n, B l), (s, p, n, l), NULL, 0)
WRAP(C_InitPIN, (S s, B p, N n), (s, p, n), NULL, 0)
WRAP(C_SetPIN, (S s, B o, N on, B p, N pn), (s, o, on, p, pn), NULL, 0)
WRAP(C_OpenSession, (CK_SLOT_ID s, CK_FLAGS f, CK_VOID_PTR a, CK_NOTIFY c, CK_SESSION_HANDLE_PTR h),
     (last_slot = s, f, a, c, h), NULL, 0)
WRAP(C_CloseSession, (S s), (s), NULL, 0)
WRAP(C_CloseAllSessions, (CK_SLOT_ID s), (s), NULL, 0)
WRAP(C_GetSessionInfo, (S s, CK_SESSION_INFO_PTR i), (s, i), NULL, 0)
WRAP(C_Login, (S s, CK_USER_TYPE u, B p, N n), (s, u, p, n), NULL, 0)
WRAP(C_Logout, (S s), (s), NULL, 0)
WRAP_NEW(C_CreateObject, (S s, A t, N n, CK_OBJECT_HANDLE_PTR o), (s, t, n, o), o)
WRAP_NEW(C_CopyObject, (S s, O h, A t, N n, CK_OBJECT_HANDLE_PTR o), (s, masked(h), t, n, o), o)
WRAP(C_DestroyObject, (S s, O h), (s, masked(h)), NULL, 0)
WRAP(C_GetObjectSize, (S s, O h, P n), (s, masked(h), n), NULL, 0)
WRAP(C_GetAttributeValue, (S s, O h, A t, N n), (s, masked(h), t, n), NULL, 0)
WRAP(C_SetAttributeValue, (S s, O h, A t, N n), (s, masked(h), t, n), NULL, 0)
WRAP(C_FindObjectsInit, (S s, A t, N n), (s, t, n), NULL, 0)
WRAP(C_FindObjectsFinal, (S s), (s), NULL, 0)
WRAP(C_EncryptInit, (S s, M m, O k), (s, m, masked(k)), NULL, 0)
WRAP(C_Encrypt, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_EncryptUpdate, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_EncryptFinal, (S s, B o, P on), (s, o, on), NULL, 0)
WRAP(C_DecryptInit, (S s, M m, O k), (s, m, masked(k)), NULL, 0)
WRAP(C_Decrypt, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_DecryptUpdate, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_DecryptFinal, (S s, B o, P on), (s, o, on), NULL, 0)
WRAP(C_DigestInit, (S s, M m), (s, m), NULL, 0)
WRAP(C_Digest, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_DigestUpdate, (S s, B d, N n), (s, d, n), d, n)
WRAP(C_DigestKey, (S s, O k), (s, masked(k)), NULL, 0)
WRAP(C_DigestFinal, (S s, B o, P on), (s, o, on), NULL, 0)
WRAP(C_SignInit, (S s, M m, O k), (s, m, masked(k)), NULL, 0)
WRAP(C_Sign, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_SignUpdate, (S s, B d, N n), (s, d, n), d, n)
WRAP(C_SignFinal, (S s, B o, P on), (s, o, on), NULL, 0)
WRAP(C_SignRecoverInit, (S s, M m, O k), (s, m, masked(k)), NULL, 0)
WRAP(C_SignRecover, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_VerifyInit, (S s, M m, O k), (s, m, masked(k)), NULL, 0)
WRAP(C_Verify, (S s, B d, N n, B o, N on), (s, d, n, o, on), d, n)
WRAP(C_VerifyUpdate, (S s, B d, N n), (s, d, n), d, n)
WRAP(C_VerifyFinal, (S s, B o, N on), (s, o, on), NULL, 0)
WRAP(C_VerifyRecoverInit, (S s, M m, O k), (s, m, masked(k)), NULL, 0)
WRAP(C_VerifyRecover, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_DigestEncryptUpdate, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_DecryptDigestUpdate, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_SignEncryptUpdate, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP(C_DecryptVerifyUpdate, (S s, B d, N n, B o, P on), (s, d, n, o, on), d, n)
WRAP_NEW(C_GenerateKey, (S s, M m, A t, N n, CK_OBJECT_HANDLE_PTR o), (s, m, t, n, o), o)
WRAP(C_WrapKey, (S s, M m, O w, O k, B o, P on), (s, m, masked(w), masked(k), o, on), (B)&m->mechanism, sizeof m->mechanism)
WRAP_NEW(C_UnwrapKey, (S s, M m, O u, B d, N n, A t, N tn, CK_OBJECT_HANDLE_PTR o), (s, m, masked(u), d, n, t, tn, o), o)
WRAP_NEW(C_DeriveKey, (S s, M m, O b, A t, N n, CK_OBJECT_HANDLE_PTR o), (s, m, masked(b), t, n, o), o)
WRAP(C_SeedRandom, (S s, B d, N n), (s, d, n), NULL, 0)
WRAP(C_GenerateRandom, (S s, B d, N n), (s, d, n), NULL, 0)

static CK_RV faulty_C_FindObjects(S s, CK_OBJECT_HANDLE_PTR o, N most, P n) {
  CK_RV rv;
  if (harm("C_FindObjects", NULL, 0, 0, &rv)) return rv;
  rv = real->C_FindObjects(s, o, most, n);
  for (N i = 0; rv == CKR_OK && i < *n; ++i) o[i] = masked(o[i]);
  return rv;
}

static CK_RV faulty_C_GenerateKeyPair(S s, M m, A t, N n, A u, N k, CK_OBJECT_HANDLE_PTR p, CK_OBJECT_HANDLE_PTR q) {
  CK_RV rv;
  if (harm("C_GenerateKeyPair", NULL, 0, 0, &rv)) return rv;
  rv = real->C_GenerateKeyPair(s, m, t, n, u, k, p, q);
  if (rv == CKR_OK) {
    *p = masked(*p);
    *q = masked(*q);
  }
  CK_RV other;
  return harm("C_GenerateKeyPair", NULL, 0, 1, &other) ? other : rv;
}

#define EACH(X)                                                                                                     \
  X(C_Initialize) X(C_Finalize) X(C_GetInfo) X(C_GetSlotList) X(C_GetSlotInfo) X(C_GetTokenInfo)                    \
  X(C_GetMechanismList) X(C_GetMechanismInfo) X(C_InitToken) X(C_InitPIN) X(C_SetPIN) X(C_OpenSession)              \
  X(C_CloseSession) X(C_CloseAllSessions) X(C_GetSessionInfo) X(C_Login) X(C_Logout) X(C_CreateObject)              \
  X(C_CopyObject) X(C_DestroyObject) X(C_GetObjectSize) X(C_GetAttributeValue) X(C_SetAttributeValue)               \
  X(C_FindObjectsInit) X(C_FindObjects) X(C_FindObjectsFinal) X(C_EncryptInit) X(C_Encrypt) X(C_EncryptUpdate)      \
  X(C_EncryptFinal) X(C_DecryptInit) X(C_Decrypt) X(C_DecryptUpdate) X(C_DecryptFinal) X(C_DigestInit) X(C_Digest)  \
  X(C_DigestUpdate) X(C_DigestKey) X(C_DigestFinal) X(C_SignInit) X(C_Sign) X(C_SignUpdate) X(C_SignFinal)          \
  X(C_SignRecoverInit) X(C_SignRecover) X(C_VerifyInit) X(C_Verify) X(C_VerifyUpdate) X(C_VerifyFinal)              \
  X(C_VerifyRecoverInit) X(C_VerifyRecover) X(C_DigestEncryptUpdate) X(C_DecryptDigestUpdate)                       \
  X(C_SignEncryptUpdate) X(C_DecryptVerifyUpdate) X(C_GenerateKey) X(C_GenerateKeyPair) X(C_WrapKey) X(C_UnwrapKey) \
  X(C_DeriveKey) X(C_SeedRandom) X(C_GenerateRandom)

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
  const char *path = getenv("FAULTY_MODULE");
  void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CK_C_GetFunctionList get = library == NULL ? NULL : (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList");
  if (get == NULL || get(&real) != CKR_OK) return CKR_GENERAL_ERROR;
  wrapped = *real;
#define SET(name) wrapped.name = faulty_##name;
  EACH(SET)
  *list = &wrapped;
  return CKR_OK;
}
