/* Lets calls on files fail as a broken or full disk does; LD_PRELOAD it.
 *
 * AEGATE_ERRORS  a file of rules, mapped by every process of the run, so that a test switches a fault on and off while
 *                they work; disk_errors.py writes it, and has the same layout and the same names of calls.
 *
 * AEGATE_ERRORS_FSYNC=0: what is to be fsynced is not, which takes time; it fails all the same when a rule says so.
 *
 * A rule matches by the kind of call and by a glob on the whole path (fnmatch(3); '*' takes slashes, too). Calls that
 * match are counted over all processes; those from `first` to `last` fail with `error`, and are not made.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "opens.h"

enum call {
    OPEN = 1, CREATE = 2, READ = 4, WRITE = 8, FSYNC = 16, RENAME = 32, LINK = 64, UNLINK = 128, MKDIR = 256,
    TRUNCATE = 512, LIST = 1024, STAT = 2048,
    ROOM = 4096,   /* no call fails: the file system says that no byte is left */
    INODES = 8192, /* likewise, no inode */
};

#define RULES 8
struct rule {
    int32_t is_on, error;
    int64_t calls, first, last; /* last 0: all that follow */
    int64_t seen, failed;
    char glob[464];
};
static struct rule *rules;
static int is_synced = 1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("AEGATE_ERRORS"), *sync = getenv("AEGATE_ERRORS_FSYNC");
    is_synced = !sync || strcmp(sync, "0");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, RULES * sizeof(struct rule), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (mapped == MAP_FAILED) abort();
    rules = mapped;
}

static int is_watched(enum call call) {
    for (int i = 0; rules && i < RULES; i++)
        if (__atomic_load_n(&rules[i].is_on, __ATOMIC_ACQUIRE) && (rules[i].calls & call)) return 1;
    return 0;
}

/* Return the error of the first rule by which this call fails, or 0. */
static int verdict(enum call call, const char *path) {
    for (int i = 0; i < RULES; i++) {
        struct rule *r = rules + i;
        if (!__atomic_load_n(&r->is_on, __ATOMIC_ACQUIRE) || !(r->calls & call) || fnmatch(r->glob, path, 0)) continue;
        int64_t n = __atomic_add_fetch(&r->seen, 1, __ATOMIC_SEQ_CST);
        if (n < r->first || (r->last && n > r->last)) continue;
        __atomic_add_fetch(&r->failed, 1, __ATOMIC_SEQ_CST);
        return r->error;
    }
    return 0;
}

static int path_of(int fd, char *path) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = fd == AT_FDCWD ? 0 : syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (fd == AT_FDCWD) return getcwd(path, PATH_MAX) != NULL;
    if (n <= 0) return 0;
    path[n] = 0;
    return 1;
}

/* Say whether a call on an open file fails; errno is set then, and kept otherwise. */
static int fails(enum call call, int fd) {
    int before = errno, error = 0;
    char path[PATH_MAX];
    if (is_watched(call) && path_of(fd, path)) error = verdict(call, path);
    errno = error ? error : before;
    return error != 0;
}

static int fails_at(enum call call, int dir, const char *name) {
    int before = errno, error = 0;
    char path[2 * PATH_MAX];
    if (is_watched(call) && name) {
        if (name[0] == '/') error = verdict(call, name);
        else if (path_of(dir, path)) {
            size_t n = strlen(path);
            snprintf(path + n, sizeof path - n, "/%s", name);
            error = verdict(call, path);
        }
    }
    errno = error ? error : before;
    return error != 0;
}

#define NEXT(name) \
    static typeof(name) *next; \
    if (!next) next = (typeof(name) *)dlsym(RTLD_NEXT, #name)

/* Files. */

static int is_new(int dir, const char *path, int flags) {
    return (flags & O_CREAT) && syscall(SYS_faccessat, dir, path, F_OK) != 0;
}

static int open_any(int dir, const char *path, int flags, mode_t mode) {
    int before = errno;
    enum call call = is_new(dir, path, flags) ? CREATE : OPEN;
    errno = before;
    if (fails_at(call, dir, path)) return -1;
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

#define ON_FILE(call, result, name, arguments, values) \
    result name arguments { \
        NEXT(name); \
        return fails(call, fd) ? -1 : next values; \
    }

ON_FILE(READ, ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
ON_FILE(READ, ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
ON_FILE(READ, ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
ON_FILE(READ, ssize_t, readv, (int fd, const struct iovec *to, int n), (fd, to, n))
ON_FILE(READ, ssize_t, preadv, (int fd, const struct iovec *to, int n, off_t at), (fd, to, n, at))
ON_FILE(READ, ssize_t, preadv64, (int fd, const struct iovec *to, int n, off64_t at), (fd, to, n, at))
ON_FILE(WRITE, ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
ON_FILE(WRITE, ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at))
ON_FILE(WRITE, ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
ON_FILE(WRITE, ssize_t, writev, (int fd, const struct iovec *data, int n), (fd, data, n))
ON_FILE(WRITE, ssize_t, pwritev, (int fd, const struct iovec *data, int n, off_t at), (fd, data, n, at))
ON_FILE(WRITE, ssize_t, pwritev64, (int fd, const struct iovec *data, int n, off64_t at), (fd, data, n, at))
ON_FILE(WRITE, ssize_t, sendfile, (int fd, int from, off_t *at, size_t n), (fd, from, at, n))
ON_FILE(WRITE, ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t n), (fd, from, at, n))
ON_FILE(WRITE, int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
ON_FILE(WRITE, int, fallocate64, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))
#define ON_SYNC(name) \
    int name(int fd) { \
        NEXT(name); \
        return fails(FSYNC, fd) ? -1 : is_synced ? next(fd) : 0; \
    }
ON_SYNC(fsync)
ON_SYNC(fdatasync)
ON_SYNC(syncfs)
ON_FILE(FSYNC, int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags), (fd, at, n, flags))
ON_FILE(TRUNCATE, int, ftruncate, (int fd, off_t size), (fd, size))
ON_FILE(TRUNCATE, int, ftruncate64, (int fd, off64_t size), (fd, size))
ON_FILE(STAT, int, fstat, (int fd, struct stat *to), (fd, to))
ON_FILE(STAT, int, fstat64, (int fd, struct stat64 *to), (fd, to))

/* These two return the error. */
int posix_fallocate(int fd, off_t at, off_t n) {
    NEXT(posix_fallocate);
    return fails(WRITE, fd) ? errno : next(fd, at, n);
}
int posix_fallocate64(int fd, off64_t at, off64_t n) { return posix_fallocate(fd, at, n); }

/* Names. */

#define ON_NAME(call, name, arguments, values, dir, path) \
    int name arguments { \
        NEXT(name); \
        return fails_at(call, dir, path) ? -1 : next values; \
    }

ON_NAME(RENAME, rename, (const char *from, const char *to), (from, to), AT_FDCWD, to)
ON_NAME(RENAME, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), b, to)
ON_NAME(LINK, link, (const char *from, const char *to), (from, to), AT_FDCWD, to)
ON_NAME(LINK, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags), b, to)
ON_NAME(UNLINK, unlink, (const char *path), (path), AT_FDCWD, path)
ON_NAME(UNLINK, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), dir, path)
ON_NAME(UNLINK, rmdir, (const char *path), (path), AT_FDCWD, path)
ON_NAME(MKDIR, mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
ON_NAME(MKDIR, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), dir, path)
ON_NAME(STAT, stat, (const char *path, struct stat *to), (path, to), AT_FDCWD, path)
ON_NAME(STAT, stat64, (const char *path, struct stat64 *to), (path, to), AT_FDCWD, path)
ON_NAME(STAT, lstat, (const char *path, struct stat *to), (path, to), AT_FDCWD, path)
ON_NAME(STAT, lstat64, (const char *path, struct stat64 *to), (path, to), AT_FDCWD, path)
ON_NAME(STAT, fstatat, (int dir, const char *path, struct stat *to, int flags), (dir, path, to, flags), dir, path)
ON_NAME(STAT, fstatat64, (int dir, const char *path, struct stat64 *to, int flags), (dir, path, to, flags), dir, path)

DIR *opendir(const char *path) {
    NEXT(opendir);
    return fails_at(LIST, AT_FDCWD, path) ? NULL : next(path);
}
DIR *fdopendir(int fd) {
    NEXT(fdopendir);
    return fails(LIST, fd) ? NULL : next(fd);
}

/* The room that is left. */

#define LEFT(name, kind) \
    int name(const char *path, struct kind *to) { \
        NEXT(name); \
        int rc = next(path, to); \
        if (rc == 0 && fails_at(ROOM, AT_FDCWD, path)) to->f_bfree = to->f_bavail = 0; \
        if (rc == 0 && fails_at(INODES, AT_FDCWD, path)) to->f_ffree = to->f_favail = 0; \
        return rc; \
    }
LEFT(statvfs, statvfs)
LEFT(statvfs64, statvfs64)

#define LEFT_OF_FILE(name, kind) \
    int name(int fd, struct kind *to) { \
        NEXT(name); \
        int rc = next(fd, to); \
        if (rc == 0 && fails(ROOM, fd)) to->f_bfree = to->f_bavail = 0; \
        if (rc == 0 && fails(INODES, fd)) to->f_ffree = to->f_favail = 0; \
        return rc; \
    }
LEFT_OF_FILE(fstatvfs, statvfs)
LEFT_OF_FILE(fstatvfs64, statvfs64)
