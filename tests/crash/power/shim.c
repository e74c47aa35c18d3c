/* Writes down, in order, what a process does to the files of one folder.
 *
 * What lives here: a library for LD_PRELOAD that passes each call on and appends a record to a
 * log. What does not: what follows from the log (disk.py). Compiled and loaded by recording.py.
 *
 * A write is written down when it has returned, a sync when it begins and again when it has
 * returned: only what was written down before the beginning counts as synced at the end.
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct record {
    char kind;
    char padding[3];
    uint32_t thread;
    uint32_t path_size;
    uint32_t data_size;
    uint64_t inode;
    uint64_t offset;
};

static char folder[4096];
static size_t folder_size;
static int out = -1;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("POWER_LOG"), *wanted = getenv("POWER_FOLDER");
    if (!path || !wanted || !realpath(wanted, folder)) return;
    folder_size = strlen(folder);
    out = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void note(char kind, const char *path, uint64_t inode, uint64_t offset, const void *data,
                 size_t size) {
    struct record record = {kind, {0}, (uint32_t)syscall(SYS_gettid), (uint32_t)strlen(path),
                            (uint32_t)size, inode, offset};
    struct iovec parts[3] = {{&record, sizeof record},
                             {(void *)path, record.path_size},
                             {(void *)data, size}};
    int before = errno;
    if (syscall(SYS_writev, out, parts, 3) < 0) abort();
    errno = before;
}

/* The path below the folder, or NULL where it is none of ours; "." is the folder itself. */
static const char *below(const char *path) {
    if (strncmp(path, folder, folder_size)) return NULL;
    if (!path[folder_size]) return ".";
    return path[folder_size] == '/' ? path + folder_size + 1 : NULL;
}

static const char *path_of(int number, char *space, struct stat *found) {
    char link[64];
    if (out < 0) return NULL;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", number);
    ssize_t size = readlink(link, space, 4095);
    const char *path = NULL;
    if (size > 0 && !fstat(number, found)) {
        space[size] = 0;
        path = below(space);
    }
    errno = before;
    return path;
}

static const char *path_at(int directory, const char *name, char *space) {
    char parent[4096], link[64];
    if (out < 0) return NULL;
    if (name[0] == '/') {
        snprintf(space, 4096, "%s", name);
        return below(space);
    }
    int before = errno;
    if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t size = readlink(link, parent, sizeof parent - 1);
    errno = before;
    if (size <= 0 || snprintf(space, 4096, "%.*s/%s", (int)size, parent, name) >= 4096) return NULL;
    return below(space);
}

static int opened(int directory, const char *name, int flags, mode_t mode) {
    char space[4096];
    struct stat found;
    int before = errno;
    const char *path = path_at(directory, name, space);
    int is_new = path && (flags & O_CREAT) && fstatat(directory, name, &found, 0);
    errno = before;
    int number = (int)syscall(SYS_openat, directory, name, flags, mode);
    if (number >= 0 && path && !fstat(number, &found)) {
        if (is_new) note('C', path, found.st_ino, 0, "", 0);
        else if (flags & O_TRUNC) note('T', path, found.st_ino, 0, "", 0);
    }
    return number;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE return opened(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE return opened(at, name, flags, mode); }

static ssize_t wrote(int number, const void *data, ssize_t size, off_t offset) {
    char space[4096];
    struct stat found;
    const char *path = size > 0 ? path_of(number, space, &found) : NULL;
    if (path && S_ISREG(found.st_mode)) {
        if (offset < 0) offset = lseek(number, 0, SEEK_CUR) - size;
        note('W', path, found.st_ino, (uint64_t)offset, data, (size_t)size);
    }
    return size;
}

ssize_t write(int number, const void *data, size_t size) {
    REAL(write);
    return wrote(number, data, real(number, data, size), -1);
}

ssize_t pwrite(int number, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    return wrote(number, data, real(number, data, size, offset), offset);
}

ssize_t pwrite64(int number, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    return wrote(number, data, real(number, data, size, offset), offset);
}

static int cut(int number, int result, off_t size) {
    char space[4096];
    struct stat found;
    const char *path = result ? NULL : path_of(number, space, &found);
    if (path) note('T', path, found.st_ino, (uint64_t)size, "", 0);
    return result;
}

int ftruncate(int number, off_t size) {
    REAL(ftruncate);
    return cut(number, real(number, size), size);
}

int ftruncate64(int number, off64_t size) {
    REAL(ftruncate64);
    return cut(number, real(number, size), size);
}

#define SYNC(name) \
    int name(int number) { \
        char space[4096]; \
        struct stat found; \
        REAL(name); \
        const char *path = path_of(number, space, &found); \
        if (path) note('B', path, found.st_ino, 0, "", 0); \
        int result = real(number); \
        if (path && !result) note('S', path, found.st_ino, 0, "", 0); \
        return result; \
    }

SYNC(fsync)
SYNC(fdatasync)

static int removed(int directory, const char *name, int flags) {
    char space[4096];
    const char *path = path_at(directory, name, space);
    int result = (int)syscall(SYS_unlinkat, directory, name, flags);
    if (path && !result) note('U', path, 0, 0, "", 0);
    return result;
}

int unlink(const char *name) { return removed(AT_FDCWD, name, 0); }
int unlinkat(int directory, const char *name, int flags) { return removed(directory, name, flags); }

static int renamed(int from, const char *name, int to, const char *target) {
    char space[4096], other[4096];
    const char *path = path_at(from, name, space), *new_path = path_at(to, target, other);
    int result = (int)syscall(SYS_renameat2, from, name, to, target, 0);
    if (!result && path && new_path) note('R', path, 0, 0, new_path, strlen(new_path));
    return result;
}

int rename(const char *name, const char *target) {
    return renamed(AT_FDCWD, name, AT_FDCWD, target);
}

int renameat(int from, const char *name, int to, const char *target) {
    return renamed(from, name, to, target);
}
