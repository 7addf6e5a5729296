/* A wall clock that a test steps: preloaded into processes, each adds the seconds that a file says.
 *
 * AEGATE_TEST_CLOCK names a folder; "<pid>" in it holds the offset of one process, "all" that of everyone else. The
 * monotonic clock is left alone, as a step of a real clock leaves it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int offset_in(const char *folder, const char *name, long *offset)
{
    char path[512], text[32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size <= 0)
        return 0;
    text[size] = 0;
    *offset = strtol(text, NULL, 10);
    return 1;
}

static long offset_s(void)
{
    const char *folder = getenv("AEGATE_TEST_CLOCK");
    char pid[16];
    long offset = 0;
    int saved = errno;
    if (folder) {
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        if (!offset_in(folder, pid, &offset))
            offset_in(folder, "all", &offset);
    }
    errno = saved;
    return offset;
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    int result = (int)syscall(SYS_clock_gettime, id, at);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        at->tv_sec += offset_s();
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    int result = (int)syscall(SYS_gettimeofday, at, zone);
    if (result == 0)
        at->tv_sec += offset_s();
    return result;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
