/* Writes down, in order, what a program does to the files below one folder; LD_PRELOAD it.
 *
 * AEGATE_DISK_ROOT     the folder, as realpath(3) gives it
 * AEGATE_DISK_JOURNAL  the file to append to; every process of the run shares it
 * AEGATE_DISK_IGNORE   glob patterns, separated by ':': fsync of a path that matches one does nothing (`syncfs` is
 *                      the path of a syncfs). A proof of the proof: without that fsync it must fail.
 * AEGATE_DISK_SYNC_US  how long an fsync takes
 *
 * A call is written down before it returns: what a program did because of it is later in the journal. Calls that
 * change names are done and written down under one lock of all processes. Nothing is really fsynced: what would
 * be on the disk is worked out from the journal by disk.py, whose reader of the same records stands there.
 * Linux system calls are made directly, so that no other interceptor is asked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "opens.h"

#define MAGIC 0x4b534944u /* DISK */

struct record {
    uint32_t magic, op;
    uint64_t ino, a, b;
    uint32_t size1, size2; /* bytes that follow: a name, or content; and a second name */
} __attribute__((packed));

static char root[PATH_MAX];
static size_t root_size;
static char ignored[4096];
static useconds_t sync_us;
static int journal = -1;
static pthread_mutex_t in_process = PTHREAD_MUTEX_INITIALIZER;

static void after_fork(void) { pthread_mutex_init(&in_process, NULL); }

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("AEGATE_DISK_ROOT"), *path = getenv("AEGATE_DISK_JOURNAL");
    if (!folder || !path) return;
    snprintf(root, sizeof root, "%s", folder);
    root_size = strlen(root);
    snprintf(ignored, sizeof ignored, "%s", getenv("AEGATE_DISK_IGNORE") ?: "");
    sync_us = (useconds_t)atoi(getenv("AEGATE_DISK_SYNC_US") ?: "0");
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) abort();
    journal = fcntl(fd, F_DUPFD_CLOEXEC, 700); /* out of the way of programs that expect low numbers */
    if (journal < 0) journal = fd;
    else syscall(SYS_close, fd);
    pthread_atfork(NULL, NULL, after_fork);
}

static void write_down(char op, uint64_t ino, uint64_t a, uint64_t b, const void *one, size_t size1, const char *two) {
    int before = errno;
    size_t size2 = two ? strlen(two) : 0;
    struct record r = {MAGIC, (uint32_t)op, ino, a, b, (uint32_t)size1, (uint32_t)size2};
    struct iovec parts[3] = {{&r, sizeof r}, {(void *)one, size1}, {(void *)two, size2}};
    size_t all = sizeof r + size1 + size2;
    if (syscall(SYS_writev, journal, parts, 3) != (ssize_t)all) abort(); /* one call: records do not mix */
    errno = before;
}

static void lock_names(void) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    pthread_mutex_lock(&in_process);
    while (fcntl(journal, F_SETLKW, &whole) != 0)
        if (errno != EINTR) abort();
}

static void unlock_names(void) {
    int before = errno;
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    fcntl(journal, F_SETLK, &whole);
    pthread_mutex_unlock(&in_process);
    errno = before;
}

static int is_below(const char *path) {
    return strncmp(path, root, root_size) == 0 && (path[root_size] == '/' || path[root_size] == 0);
}

/* Where an open file lies: 1 and its path and stat when below the root. */
static int below(int fd, char *path, struct stat *st) {
    int before = errno, is = 0;
    char link[40];
    if (journal >= 0 && fstat(fd, st) == 0 && (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        long n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
        if (n > 0) {
            path[n] = 0;
            is = is_below(path);
        }
    }
    errno = before;
    return is;
}

/* Which folder and which name in it a path means; 0 when not below the root. */
struct place {
    uint64_t folder;
    char name[NAME_MAX + 1];
    char path[PATH_MAX];
};

static int find(int dir, const char *path, struct place *p) {
    int before = errno, is = 0;
    if (journal < 0 || !path) return 0;
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    size_t n = strlen(parent);
    while (n > 1 && parent[n - 1] == '/') parent[--n] = 0;
    char *slash = strrchr(parent, '/');
    snprintf(p->name, sizeof p->name, "%s", slash ? slash + 1 : parent);
    if (!slash) strcpy(parent, ".");
    else if (slash == parent) parent[1] = 0;
    else *slash = 0;
    int fd = (int)syscall(SYS_openat, dir, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd >= 0) {
        struct stat st;
        is = below(fd, p->path, &st);
        p->folder = st.st_ino;
        syscall(SYS_close, fd);
        if (is && strlen(p->path) + strlen(p->name) + 2 < PATH_MAX) {
            strcat(p->path, "/");
            strcat(p->path, p->name);
        }
    }
    errno = before;
    return is;
}

static void unmodelled(const char *what) { write_down('X', 0, 0, 0, what, strlen(what), NULL); }

/* Files. */

static int open_below(int dir, const char *path, int flags, mode_t mode, struct place *p) {
    struct stat st;
    if (flags & (O_DSYNC | O_SYNC)) unmodelled("open(O_SYNC)");
    if ((flags & O_TMPFILE) == O_TMPFILE) unmodelled("open(O_TMPFILE)");
    lock_names();
    int fd = -1, created = 0;
    while ((flags & O_CREAT) && fd < 0) {
        fd = (int)syscall(SYS_openat, dir, path, flags | O_EXCL, mode);
        created = fd >= 0;
        if (fd >= 0 || errno != EEXIST || (flags & O_EXCL)) break;
        fd = (int)syscall(SYS_openat, dir, path, flags & ~O_CREAT, mode);
        if (fd < 0 && errno != ENOENT) break;
    }
    if (!(flags & O_CREAT)) fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        if (created) write_down('C', st.st_ino, p->folder, st.st_mode, p->name, strlen(p->name), NULL);
        else if ((flags & O_TRUNC) && S_ISREG(st.st_mode)) write_down('T', st.st_ino, 0, 0, NULL, 0, NULL);
    }
    unlock_names();
    return fd;
}

static int open_any(int dir, const char *path, int flags, mode_t mode) {
    struct place p;
    if ((flags & (O_CREAT | O_TRUNC | O_DSYNC | O_TMPFILE) & ~O_DIRECTORY) && find(dir, path, &p))
        return open_below(dir, path, flags, mode, &p);
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static void wrote(int fd, const void *data, ssize_t n, off_t at) {
    char path[PATH_MAX];
    struct stat st;
    if (n > 0 && below(fd, path, &st)) {
        int before = errno;
        if (at < 0) at = syscall(SYS_lseek, fd, 0, SEEK_CUR) - n;
        write_down('W', st.st_ino, (uint64_t)at, 0, data, (size_t)n, NULL);
        errno = before;
    }
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t n = syscall(SYS_write, fd, data, size);
    wrote(fd, data, n, -1);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    ssize_t n = syscall(SYS_pwrite64, fd, data, size, at);
    wrote(fd, data, n, at);
    return n;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t n = syscall(SYS_writev, fd, parts, count), done = 0;
    char path[PATH_MAX];
    struct stat st;
    if (n > 0 && below(fd, path, &st)) {
        off_t end = syscall(SYS_lseek, fd, 0, SEEK_CUR);
        for (int i = 0; i < count && done < n; i++) {
            ssize_t size = (ssize_t)parts[i].iov_len < n - done ? (ssize_t)parts[i].iov_len : n - done;
            wrote(fd, parts[i].iov_base, size, end - n + done);
            done += size;
        }
    }
    return n;
}

int ftruncate(int fd, off_t size) {
    char path[PATH_MAX];
    struct stat st;
    int rc = (int)syscall(SYS_ftruncate, fd, size);
    if (rc == 0 && below(fd, path, &st)) write_down('T', st.st_ino, (uint64_t)size, 0, NULL, 0, NULL);
    return rc;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int truncate(const char *path, off_t size) {
    int fd = open_any(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return -1;
    int rc = ftruncate(fd, size);
    syscall(SYS_close, fd);
    return rc;
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

/* What makes durable. */

static int is_ignored(const char *path) {
    char patterns[sizeof ignored], *rest = NULL;
    strcpy(patterns, ignored);
    for (char *one = strtok_r(patterns, ":", &rest); one; one = strtok_r(NULL, ":", &rest))
        if (fnmatch(one, path, 0) == 0) {
            write_down('I', 0, 0, 0, path, strlen(path), NULL); /* counted: what nothing matched proves nothing */
            return 1;
        }
    return 0;
}

static int sync_one(int fd, long call) {
    char path[PATH_MAX];
    struct stat st;
    if (!below(fd, path, &st)) return (int)syscall(call, fd);
    if (sync_us) usleep(sync_us);
    if (call == SYS_syncfs) {
        if (!is_ignored("syncfs")) write_down('S', st.st_ino, 0, 0, NULL, 0, NULL);
    } else if (!is_ignored(path)) {
        write_down('F', st.st_ino, 0, 0, NULL, 0, NULL);
    }
    return 0;
}

int fsync(int fd) { return sync_one(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_one(fd, SYS_fdatasync); }
int syncfs(int fd) { return sync_one(fd, SYS_syncfs); }
void sync(void) { if (journal >= 0) unmodelled("sync"); }

/* Names. */

static int make_dir(int dir, const char *path, mode_t mode) {
    struct place p;
    struct stat st;
    if (!find(dir, path, &p)) return (int)syscall(SYS_mkdirat, dir, path, mode);
    lock_names();
    int rc = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (rc == 0 && fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
        write_down('D', st.st_ino, p.folder, st.st_mode, p.name, strlen(p.name), NULL);
    unlock_names();
    return rc;
}
int mkdir(const char *path, mode_t mode) { return make_dir(AT_FDCWD, path, mode); }
int mkdirat(int dir, const char *path, mode_t mode) { return make_dir(dir, path, mode); }

static int remove_name(int dir, const char *path, int flags) {
    struct place p;
    if (!find(dir, path, &p)) return (int)syscall(SYS_unlinkat, dir, path, flags);
    lock_names();
    int rc = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (rc == 0) write_down('U', 0, p.folder, 0, p.name, strlen(p.name), NULL);
    unlock_names();
    return rc;
}
int unlink(const char *path) { return remove_name(AT_FDCWD, path, 0); }
int unlinkat(int dir, const char *path, int flags) { return remove_name(dir, path, flags); }
int rmdir(const char *path) { return remove_name(AT_FDCWD, path, AT_REMOVEDIR); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    struct place a, b;
    int from_below = find(from_dir, from, &a), to_below = find(to_dir, to, &b);
    if (!from_below && !to_below) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (from_below != to_below) unmodelled("rename over the border");
    if (flags & ~(unsigned)RENAME_NOREPLACE) unmodelled("renameat2 with flags");
    lock_names();
    int rc = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (rc == 0) write_down('R', 0, a.folder, b.folder, a.name, strlen(a.name), b.name);
    unlock_names();
    return rc;
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    struct place b;
    struct stat st;
    if (!find(to_dir, to, &b)) return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    lock_names();
    int rc = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    if (rc == 0 && fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
        write_down('L', st.st_ino, b.folder, 0, b.name, strlen(b.name), NULL);
    unlock_names();
    return rc;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

static void set_mode(int fd, mode_t mode) {
    char path[PATH_MAX];
    struct stat st;
    if (below(fd, path, &st)) write_down('M', st.st_ino, mode, 0, NULL, 0, NULL);
}
int fchmod(int fd, mode_t mode) {
    int rc = (int)syscall(SYS_fchmod, fd, mode);
    if (rc == 0) set_mode(fd, mode);
    return rc;
}
int chmod(const char *path, mode_t mode) {
    int rc = (int)syscall(SYS_fchmodat, AT_FDCWD, path, mode);
    int fd = rc == 0 ? (int)syscall(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        set_mode(fd, mode);
        syscall(SYS_close, fd);
    }
    return rc;
}

/* What the model does not know: said in the journal, and the proof fails. */

#define UNKNOWN(fd, what) \
    do { \
        char path[PATH_MAX]; \
        struct stat st; \
        if (below(fd, path, &st)) unmodelled(what); \
    } while (0)

ssize_t sendfile(int out, int in, off_t *at, size_t n) {
    UNKNOWN(out, "sendfile");
    return syscall(SYS_sendfile, out, in, at, n);
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) { return sendfile(out, in, at, n); }
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags) {
    UNKNOWN(out, "copy_file_range");
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, n, flags);
}
int fallocate(int fd, int mode, off_t at, off_t n) {
    UNKNOWN(fd, "fallocate");
    return (int)syscall(SYS_fallocate, fd, mode, at, n);
}
int fallocate64(int fd, int mode, off64_t at, off64_t n) { return fallocate(fd, mode, at, n); }
int posix_fallocate(int fd, off_t at, off_t n) { return fallocate(fd, 0, at, n) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off64_t at, off64_t n) { return posix_fallocate(fd, at, n); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    UNKNOWN(fd, "pwritev");
    return syscall(SYS_pwritev, fd, parts, count, at, 0);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return pwritev(fd, parts, count, at); }
int symlinkat(const char *what, int dir, const char *path) {
    struct place p;
    if (find(dir, path, &p)) unmodelled("symlink");
    return (int)syscall(SYS_symlinkat, what, dir, path);
}
int symlink(const char *what, const char *path) { return symlinkat(what, AT_FDCWD, path); }
