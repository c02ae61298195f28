/* Loaded before all other libraries of an engine's processes: a clock that is shifted and memory that is taken, as a
   file of two numbers says, {seconds that the wall clock is ahead, pid of the process that takes memory}. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BALLAST (400u << 20)

static const volatile int64_t *told;

static void *watch(void *nothing)
{
    const struct timespec pause = {0, 100 * 1000 * 1000};
    while (told[1] != getpid())
        nanosleep(&pause, 0);
    mmap(0, BALLAST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return nothing;
}

__attribute__((constructor)) static void begin(int count, char **arguments)
{
    const char *path = getenv("FAULTS_TOLD");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(0, 2 * sizeof *told, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found == MAP_FAILED)
        return;
    told = found;
    pthread_t thread;
    if (count > 0 && strstr(arguments[0], "python"))
        pthread_create(&thread, 0, watch, 0);
}

static int64_t ahead(void) { return told ? told[0] : 0; }

int clock_gettime(clockid_t id, struct timespec *found)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(id, found);
    if (!answer && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        found->tv_sec += ahead();
    return answer;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone)
{
    static int (*real)(struct timeval *, void *);
    if (!real)
        real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int answer = real(found, zone);
    found->tv_sec += ahead();
    return answer;
}

time_t time(time_t *found)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}
