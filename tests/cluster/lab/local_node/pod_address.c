/*
 * A pod has an address and a host name of its own. Put under a process by LD_PRELOAD: what it binds to any address is bound to
 * LAB_POD_IP, and it is called LAB_POD_NAME; so many pods of one machine listen on the same port.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);

static int next_bind(int fd, const void *address, socklen_t length) {
    static bind_function next;
    if (!next) {
        *(void **)&next = dlsym(RTLD_NEXT, "bind");
    }
    return next(fd, address, length);
}

int bind(int fd, const struct sockaddr *address, socklen_t length) {
    const char *ip = getenv("LAB_POD_IP");
    struct in_addr own;
    if (!ip || !address || inet_pton(AF_INET, ip, &own) != 1) {
        return next_bind(fd, address, length);
    }
    if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in changed;
        memcpy(&changed, address, sizeof changed);
        if (changed.sin_addr.s_addr == htonl(INADDR_ANY)) {
            changed.sin_addr = own;
        }
        return next_bind(fd, &changed, sizeof changed);
    }
    if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 changed;
        memcpy(&changed, address, sizeof changed);
        if (IN6_IS_ADDR_UNSPECIFIED(&changed.sin6_addr)) {
            int off = 0;
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
            changed.sin6_addr.s6_addr[10] = changed.sin6_addr.s6_addr[11] = 0xff;
            memcpy(&changed.sin6_addr.s6_addr[12], &own, sizeof own);
        }
        return next_bind(fd, &changed, sizeof changed);
    }
    return next_bind(fd, address, length);
}

int gethostname(char *name, size_t length) {
    const char *own = getenv("LAB_POD_NAME");
    if (own) {
        strncpy(name, own, length);
        return 0;
    }
    int (*next)(char *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "gethostname");
    return next(name, length);
}
