/* Fails chosen calls on chosen files, switched on and off by the test while the process runs.
 *
 * DCENGINE_FAILING names a file of RULES rules that both sides map: who writes there decides at once. It is read at each
 * call, so nothing has to be told to anybody; `tests/faults/disks.py` writes it. A rule says which calls, on which paths
 * (a part of it, or its end if the rule ends with "$"), how often yet (-1: for ever) after how many that are let pass,
 * and the error; error 0 makes a write a short one. `hits` counts what was failed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { RULES = 8, PATH = 232 };
enum { WRITE = 1, SYNC = 2, LENGTH = 4, CREATE = 8, READ = 16, FSYNC = 32 };  /* SYNC: fdatasync too, by which SQLite syncs */

struct rule {
    int32_t calls, error, pass, left, hits, spare;
    char path[PATH];
};

static struct rule *rules;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("DCENGINE_FAILING");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *there = mmap(NULL, RULES * sizeof(struct rule), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (there != MAP_FAILED) rules = there;
    close(file);
}

static int fits(const char *path, const char *wanted) {
    size_t n = strlen(wanted), m = strlen(path);
    if (n && wanted[n - 1] == '$') return m >= n - 1 && !strncmp(path + m - (n - 1), wanted, n - 1);
    return strstr(path, wanted) != NULL;
}

/* Return the error that this call is to fail with, -1 for none; 0 is a short write. */
static int verdict(int call, const char *path, int file) {
    char found[4096];
    for (int i = 0; rules && i < RULES; i++) {
        struct rule *rule = rules + i;
        if (!(__atomic_load_n(&rule->calls, __ATOMIC_ACQUIRE) & call) || !__atomic_load_n(&rule->left, __ATOMIC_ACQUIRE))
            continue;
        if (!path) {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", file);
            ssize_t n = readlink(link, found, sizeof found - 1);
            if (n < 0) return -1;
            found[n] = 0;
            path = found;
        }
        if (!fits(path, rule->path)) continue;
        if (__atomic_load_n(&rule->pass, __ATOMIC_ACQUIRE) > 0 && __atomic_fetch_sub(&rule->pass, 1, __ATOMIC_ACQ_REL) > 0)
            continue;
        if (__atomic_load_n(&rule->left, __ATOMIC_ACQUIRE) > 0 && __atomic_fetch_sub(&rule->left, 1, __ATOMIC_ACQ_REL) <= 0)
            continue;
        __atomic_add_fetch(&rule->hits, 1, __ATOMIC_ACQ_REL);
        return rule->error;
    }
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_AS(error) do { errno = (error); return -1; } while (0)

#define WRITES(name, arguments, ...)                                                 \
    ssize_t name arguments {                                                         \
        static __typeof__(&name) real;                                               \
        if (!real) real = REAL(name);                                                \
        int error = verdict(WRITE, NULL, file);                                      \
        if (error > 0) FAIL_AS(error);                                               \
        if (error == 0 && size > 1) size /= 2;                                       \
        return real(__VA_ARGS__);                                                    \
    }
#define REFUSES(name, call, arguments, ...)                                          \
    int name arguments {                                                             \
        static __typeof__(&name) real;                                               \
        if (!real) real = REAL(name);                                                \
        int error = verdict(call, NULL, file);                                       \
        if (error > 0) FAIL_AS(error);                                               \
        return real(__VA_ARGS__);                                                    \
    }

WRITES(write, (int file, const void *data, size_t size), file, data, size)
WRITES(pwrite, (int file, const void *data, size_t size, off_t at), file, data, size, at)
WRITES(pwrite64, (int file, const void *data, size_t size, off64_t at), file, data, size, at)
REFUSES(fsync, SYNC | FSYNC, (int file), file)
REFUSES(fdatasync, SYNC, (int file), file)
REFUSES(ftruncate, LENGTH, (int file, off_t size), file, size)
REFUSES(ftruncate64, LENGTH, (int file, off64_t size), file, size)
REFUSES(fallocate, LENGTH, (int file, int mode, off_t at, off_t size), file, mode, at, size)

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    static __typeof__(&pread64) real;
    if (!real) real = REAL(pread64);
    int error = verdict(READ, NULL, file);
    if (error > 0) FAIL_AS(error);
    return real(file, data, size, at);
}

/* Return whether *path* is to be made and may not be. */
static int refused(const char *path, int flags) {
    if (!(flags & O_CREAT) || !rules) return 0;
    int before = errno, is_there = access(path, F_OK) == 0, error;
    errno = before;
    if (is_there || (error = verdict(CREATE, path, -1)) <= 0) return 0;
    errno = error;
    return 1;
}

#define OPENS(name)                                                                  \
    int name(const char *path, int flags, ...) {                                     \
        static int (*real)(const char *, int, ...);                                  \
        if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);  \
        mode_t mode = 0;                                                             \
        if (flags & O_CREAT) {                                                       \
            va_list more;                                                            \
            va_start(more, flags);                                                   \
            mode = va_arg(more, mode_t);                                             \
            va_end(more);                                                            \
        }                                                                            \
        return refused(path, flags) ? -1 : real(path, flags, mode);                  \
    }
OPENS(open)
OPENS(open64)
