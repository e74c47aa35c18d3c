/* Makes the disk below one folder fail, and the wall clock jump, as a control page says.

   What lives here: wrappers of the system calls that write. What does not: when they fail; a test
   writes that into the page while the program runs. Preloaded into servers. */

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
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    int32_t error;         /* errno of every write, 0 for none */
    int32_t sync_error;    /* errno of every sync */
    int32_t sync_delay_ms; /* how long every sync takes */
    int32_t padding;
    int64_t clock_offset;  /* seconds that the wall clock is ahead */
};

static volatile struct control *control;
static const char *folder;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULT_CONTROL");
    folder = getenv("FAULT_FOLDER");
    if (path == NULL || folder == NULL)
        return;
    int number = open(path, O_RDWR | O_CLOEXEC);
    if (number < 0)
        return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, number, 0);
    close(number);
    if (page != MAP_FAILED)
        control = page;
}

static int concerns(int number)
{
    char link[64], path[4096];
    if (control == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", number);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (real == NULL) \
        real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define FAIL_WRITES(number) \
    if (control != NULL && control->error && concerns(number)) { \
        errno = control->error; \
        return -1; \
    }

ssize_t write(int number, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    FAIL_WRITES(number)
    return real(number, data, size);
}

ssize_t pwrite(int number, const void *data, size_t size, off_t at)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    FAIL_WRITES(number)
    return real(number, data, size, at);
}

ssize_t pwrite64(int number, const void *data, size_t size, off64_t at)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    FAIL_WRITES(number)
    return real(number, data, size, at);
}

int ftruncate(int number, off_t size)
{
    REAL(int, "ftruncate", int, off_t);
    FAIL_WRITES(number)
    return real(number, size);
}

int ftruncate64(int number, off64_t size)
{
    REAL(int, "ftruncate64", int, off64_t);
    FAIL_WRITES(number)
    return real(number, size);
}

static int sync_fails(int number)
{
    if (control == NULL || !(control->sync_delay_ms || control->sync_error || control->error))
        return 0;
    if (!concerns(number))
        return 0;
    /* In slices: it ends when it is called off. */
    for (int32_t slept = 0; slept < control->sync_delay_ms; slept += 10)
        usleep(10000);
    return control->sync_error;
}

int fsync(int number)
{
    REAL(int, "fsync", int);
    int error = sync_fails(number);
    if (error) {
        errno = error;
        return -1;
    }
    return real(number);
}

int fdatasync(int number)
{
    REAL(int, "fdatasync", int);
    int error = sync_fails(number);
    if (error) {
        errno = error;
        return -1;
    }
    return real(number);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && control != NULL)
        now->tv_sec += control->clock_offset;
    return result;
}
