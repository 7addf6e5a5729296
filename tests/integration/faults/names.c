/* A name server for programs under test; LD_PRELOAD it. Names that end in .test are this machine, as long as no file
   of that name lies in the folder AEGATE_NAMES_AWAY: then the name server does not answer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*resolver)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  static const char suffix[] = ".test";
  resolver next = (resolver)dlsym(RTLD_NEXT, "getaddrinfo");
  const char *away = getenv("AEGATE_NAMES_AWAY");
  size_t length = node ? strlen(node) : 0;
  char path[4096];

  if (away == NULL || length < sizeof suffix || strcmp(node + length - (sizeof suffix - 1), suffix) != 0)
    return next(node, service, hints, found);
  snprintf(path, sizeof path, "%s/%s", away, node);
  return access(path, F_OK) == 0 ? EAI_AGAIN : next("127.0.0.1", service, hints, found);
}
