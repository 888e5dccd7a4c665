/* Writes down what a process does to the files below a folder, in the order in which it happens.
 *
 * RECORDER_FOLDER is the folder, RECORDER_LOG the log (tests/faults/power.py reads it). Both are absolute, and the log
 * lies elsewhere. What changes files through a mapping is not seen: SQLite does so with its -shm, which it can rebuild.
 *
 * A sync is written down when it is asked for and when it has returned: what was written in between may or may not be
 * covered. Everything else is done and written down under one lock, so that the log has the order of the disk's cache.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, LINK, UNLINK, MKDIR, RMDIR };

struct head { /* followed by the path, another path, and data */
    uint32_t kind, path, other, data;
    uint64_t inode;
    int64_t at;
};

static const char *folder;
static size_t folder_length;
static int log_file = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static int64_t syncs;

#define DECLARE(name)                                                                                                  \
    static __typeof__(&name) real_##name(void)                                                                         \
    {                                                                                                                  \
        static void *found;                                                                                            \
        if (!found)                                                                                                    \
            found = dlsym(RTLD_NEXT, #name);                                                                           \
        return (__typeof__(&name))found;                                                                               \
    }
#define REAL(name) real_##name()

DECLARE(open64) DECLARE(openat64) DECLARE(write) DECLARE(writev) DECLARE(pwrite64) DECLARE(pwritev64)
DECLARE(ftruncate64) DECLARE(posix_fallocate64) DECLARE(fallocate64) DECLARE(fsync) DECLARE(fdatasync)
DECLARE(rename) DECLARE(renameat) DECLARE(renameat2) DECLARE(link) DECLARE(linkat) DECLARE(unlink) DECLARE(unlinkat)
DECLARE(mkdir) DECLARE(mkdirat) DECLARE(rmdir) DECLARE(_exit)

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("RECORDER_LOG");
    folder = getenv("RECORDER_FOLDER");
    if (!log || !folder)
        return;
    folder_length = strlen(folder);
    int low = REAL(open64)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    log_file = fcntl(low, F_DUPFD_CLOEXEC, 500); /* where nobody closes it by accident */
    if (log_file < 0)
        abort();
    close(low);
}

static void note(enum kind kind, const char *path, const char *other, uint64_t inode, int64_t at, const void *data,
                 size_t length)
{
    struct head head = {kind, path ? strlen(path) : 0, other ? strlen(other) : 0, length, inode, at};
    struct iovec parts[] = {
        {&head, sizeof head}, {(void *)path, head.path}, {(void *)other, head.other}, {(void *)data, length}};
    int before = errno;
    ssize_t whole = sizeof head + head.path + head.other + length;
    if (REAL(writev)(log_file, parts, 4) != whole)
        abort(); /* half a log is worse than none */
    errno = before;
}

/* ---- which files are meant ---- */

static int is_below(const char *path)
{
    return log_file >= 0 && !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

static int path_of(int file, char *path) /* of an open file or folder; whether it is meant */
{
    char link[40];
    if (log_file < 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    int before = errno;
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = before;
    path[length > 0 ? length : 0] = 0;
    return is_below(path);
}

static int full(int at, const char *path, char *whole) /* an absolute path; whether it is meant */
{
    char base[PATH_MAX] = "";
    if (log_file < 0)
        return 0;
    if (path[0] != '/' && at == AT_FDCWD && !getcwd(base, sizeof base))
        return 0;
    if (path[0] != '/' && at != AT_FDCWD && (path_of(at, base), !base[0]))
        return 0;
    if (snprintf(whole, PATH_MAX, "%s%s%s", base, base[0] ? "/" : "", path) >= PATH_MAX)
        return 0;
    return is_below(whole);
}

static uint64_t inode_of(int file)
{
    struct stat64 about;
    return fstat64(file, &about) ? 0 : about.st_ino;
}

/* ---- files come to be ---- */

static int opened(int at, const char *path, int flags, mode_t mode)
{
    char whole[PATH_MAX];
    struct stat64 about;
    if (!(flags & (O_CREAT | O_TRUNC)) || !full(at, path, whole))
        return REAL(openat64)(at, path, flags, mode);
    pthread_mutex_lock(&turn);
    int was_there = !stat64(whole, &about);
    int file = REAL(openat64)(at, path, flags, mode);
    if (file >= 0 && !was_there)
        note(CREATE, whole, NULL, inode_of(file), 0, NULL, 0);
    else if (file >= 0 && flags & O_TRUNC)
        note(TRUNCATE, NULL, NULL, about.st_ino, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    return file;
}

#define OPEN(name, ...)                                                                                                \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                      \
        va_end(rest);                                                                                                  \
        return opened(__VA_ARGS__, path, flags, mode);                                                                 \
    }

int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD)
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD)
int openat(int at, const char *path, int flags, ...) OPEN(openat, at)
int openat64(int at, const char *path, int flags, ...) OPEN(openat64, at)

/* ---- what they hold ---- */

static void wrote(int file, int64_t at, const struct iovec *parts, int count, ssize_t length)
{
    uint64_t inode = inode_of(file);
    for (int n = 0; n < count && length > 0; n++) {
        size_t piece = (size_t)length < parts[n].iov_len ? (size_t)length : parts[n].iov_len;
        note(WRITE, NULL, NULL, inode, at, parts[n].iov_base, piece);
        at += piece;
        length -= piece;
    }
}

static int is_regular(int file)
{
    struct stat64 about;
    char path[PATH_MAX];
    return log_file >= 0 && !fstat64(file, &about) && S_ISREG(about.st_mode) && path_of(file, path);
}

#define WRITTEN(call, where, parts, count)                                                                             \
    {                                                                                                                  \
        if (!is_regular(file))                                                                                         \
            return call;                                                                                               \
        pthread_mutex_lock(&turn);                                                                                     \
        ssize_t length = call;                                                                                         \
        if (length > 0)                                                                                                \
            wrote(file, where, parts, count, length);                                                                  \
        pthread_mutex_unlock(&turn);                                                                                   \
        return length;                                                                                                 \
    }
#define ONE (&(struct iovec){(void *)data, size})

ssize_t write(int file, const void *data, size_t size)
    WRITTEN(REAL(write)(file, data, size), lseek64(file, 0, SEEK_CUR) - length, ONE, 1)
ssize_t writev(int file, const struct iovec *parts, int count)
    WRITTEN(REAL(writev)(file, parts, count), lseek64(file, 0, SEEK_CUR) - length, parts, count)
ssize_t pwrite(int file, const void *data, size_t size, off_t at)
    WRITTEN(REAL(pwrite64)(file, data, size, at), at, ONE, 1)
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at)
    WRITTEN(REAL(pwrite64)(file, data, size, at), at, ONE, 1)
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at)
    WRITTEN(REAL(pwritev64)(file, parts, count, at), at, parts, count)
ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t at)
    WRITTEN(REAL(pwritev64)(file, parts, count, at), at, parts, count)

static int resized(int file, int result) /* whatever has changed it: its size is noted */
{
    struct stat64 about;
    if (!result && !fstat64(file, &about))
        note(TRUNCATE, NULL, NULL, about.st_ino, about.st_size, NULL, 0);
    return result;
}

#define RESIZED(call)                                                                                                  \
    {                                                                                                                  \
        if (!is_regular(file))                                                                                         \
            return call;                                                                                               \
        pthread_mutex_lock(&turn);                                                                                     \
        int result = resized(file, call);                                                                              \
        pthread_mutex_unlock(&turn);                                                                                   \
        return result;                                                                                                 \
    }

int ftruncate(int file, off_t size) RESIZED(REAL(ftruncate64)(file, size))
int ftruncate64(int file, off64_t size) RESIZED(REAL(ftruncate64)(file, size))
int posix_fallocate(int file, off_t at, off_t size) RESIZED(REAL(posix_fallocate64)(file, at, size))
int posix_fallocate64(int file, off64_t at, off64_t size) RESIZED(REAL(posix_fallocate64)(file, at, size))
int fallocate(int file, int mode, off_t at, off_t size) RESIZED(REAL(fallocate64)(file, mode, at, size))
int fallocate64(int file, int mode, off64_t at, off64_t size) RESIZED(REAL(fallocate64)(file, mode, at, size))

/* ---- what is safe; sync_file_range is no barrier, and goes by unseen ---- */

static int synced(int file, int (*sync)(int))
{
    char path[PATH_MAX];
    if (!path_of(file, path))
        return sync(file);
    uint64_t inode = inode_of(file);
    pthread_mutex_lock(&turn);
    int64_t number = ++syncs;
    note(SYNC_BEGIN, path, NULL, inode, number, NULL, 0);
    pthread_mutex_unlock(&turn);
    int result = sync(file);
    pthread_mutex_lock(&turn);
    if (!result)
        note(SYNC_END, path, NULL, inode, number, NULL, 0);
    pthread_mutex_unlock(&turn);
    return result;
}

int fsync(int file) { return synced(file, REAL(fsync)); }
int fdatasync(int file) { return synced(file, REAL(fdatasync)); }

/* ---- their names ---- */

static int renamed(enum kind kind, const char *from, const char *to, int result)
{
    if (!result)
        note(kind, from, to, 0, 0, NULL, 0);
    return result;
}

#define NAMED(kind, from_at, to_at, call)                                                                              \
    {                                                                                                                  \
        char whole[PATH_MAX], other[PATH_MAX];                                                                         \
        if (!(full(from_at, from, whole) | full(to_at, to, other)))                                                    \
            return call;                                                                                               \
        pthread_mutex_lock(&turn);                                                                                     \
        int result = renamed(kind, whole, other, call);                                                                \
        pthread_mutex_unlock(&turn);                                                                                   \
        return result;                                                                                                 \
    }

int rename(const char *from, const char *to) NAMED(RENAME, AT_FDCWD, AT_FDCWD, REAL(rename)(from, to))
int renameat(int a, const char *from, int b, const char *to) NAMED(RENAME, a, b, REAL(renameat)(a, from, b, to))
int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
    NAMED(RENAME, a, b, REAL(renameat2)(a, from, b, to, flags))
int link(const char *from, const char *to) NAMED(LINK, AT_FDCWD, AT_FDCWD, REAL(link)(from, to))
int linkat(int a, const char *from, int b, const char *to, int flags)
    NAMED(LINK, a, b, REAL(linkat)(a, from, b, to, flags))

static int changed(enum kind kind, const char *path, int result)
{
    struct stat64 about = {0};
    if (!result && kind == MKDIR)
        stat64(path, &about);
    if (!result)
        note(kind, path, NULL, about.st_ino, 0, NULL, 0);
    return result;
}

#define CHANGED(kind, at, call)                                                                                        \
    {                                                                                                                  \
        char whole[PATH_MAX];                                                                                          \
        if (!full(at, path, whole))                                                                                    \
            return call;                                                                                               \
        pthread_mutex_lock(&turn);                                                                                     \
        int result = changed(kind, whole, call);                                                                       \
        pthread_mutex_unlock(&turn);                                                                                   \
        return result;                                                                                                 \
    }

int unlink(const char *path) CHANGED(UNLINK, AT_FDCWD, REAL(unlink)(path))
int unlinkat(int at, const char *path, int flags)
    CHANGED(flags & AT_REMOVEDIR ? RMDIR : UNLINK, at, REAL(unlinkat)(at, path, flags))
int mkdir(const char *path, mode_t mode) CHANGED(MKDIR, AT_FDCWD, REAL(mkdir)(path, mode))
int mkdirat(int at, const char *path, mode_t mode) CHANGED(MKDIR, at, REAL(mkdirat)(at, path, mode))
int rmdir(const char *path) CHANGED(RMDIR, AT_FDCWD, REAL(rmdir)(path))

/* ---- the end: with it ends every thread, and none of them in the middle of writing something down ---- */

__attribute__((noreturn)) void _exit(int status)
{
    pthread_mutex_lock(&turn);
    REAL(_exit)(status);
    __builtin_unreachable();
}
