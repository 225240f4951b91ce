/* Stands between a process and its files (LD_PRELOAD): writes down in their order what is written to the database and
 * what is synced, and fails what it is told to fail. Only files whose path begins with $DISK are looked at.
 *
 * $DISK_LOG takes records: kind (1 byte), length of the name (1 byte), offset and length (8 bytes each, this machine's
 * order), the name behind $DISK (`.` for the directory), the bytes. Kinds: w written, s synced, t truncated (the offset
 * is the new size), u unlinked, f not synced although asked for. The file named `acks` is nobody's database: what is written to it is what the process says is kept.
 *
 * $DISK_FAULT is a file of one byte, looked at before every operation: 0 nothing, 1 no space for writing, 2 an error of
 * syncing, 3 an error of writing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { FILES = 1024, NAME = 256 };

static char names[FILES][NAME];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const volatile char *fault;
static const char *disk;
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void start(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_open = dlsym(RTLD_NEXT, "open64");
    disk = getenv("DISK");
    const char *path = getenv("DISK_LOG");
    if (disk && path) log_fd = real_open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    path = getenv("DISK_FAULT");
    int fd = path ? real_open(path, O_RDONLY) : -1;
    if (fd >= 0) {
        void *mapped = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED) fault = mapped;
        close(fd);
    }
}

static int told(char which) { return fault && *fault == which; }

static void note(char kind, const char *name, uint64_t offset, const void *bytes, uint64_t length) {
    if (log_fd < 0) return;
    char head[18 + NAME];
    size_t named = strlen(name);
    head[0] = kind;
    head[1] = (char)named;
    memcpy(head + 2, &offset, 8);
    memcpy(head + 10, &length, 8);
    memcpy(head + 18, name, named);
    pthread_mutex_lock(&lock);
    if (real_write(log_fd, head, 18 + named) < 0) abort();
    if (bytes && length && real_write(log_fd, bytes, length) != (ssize_t)length) abort();
    pthread_mutex_unlock(&lock);
}

static const char *name_of(int fd) { return fd >= 0 && fd < FILES && names[fd][0] ? names[fd] : NULL; }

static int opened(int fd, const char *path) {
    if (fd < 0 || fd >= FILES) return fd;
    names[fd][0] = 0;
    size_t length = disk ? strlen(disk) : 0;
    if (length && strncmp(path, disk, length) == 0 && strlen(path + length) < NAME) strcpy(names[fd], path + length);
    if (length && strncmp(path, disk, length - 1) == 0 && path[length - 1] == 0) strcpy(names[fd], ".");
    return fd;
}

#define OPEN(symbol)                                                          \
    int symbol(const char *path, int flags, ...) {                            \
        mode_t mode = 0;                                                      \
        if (flags & (O_CREAT | O_TMPFILE)) {                                  \
            va_list list;                                                     \
            va_start(list, flags);                                            \
            mode = va_arg(list, mode_t);                                      \
            va_end(list);                                                     \
        }                                                                     \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #symbol);      \
        return opened(real(path, flags, mode), path);                         \
    }

OPEN(open)
OPEN(open64)

int close(int fd) {
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < FILES) names[fd][0] = 0;
    return real(fd);
}

static int may_write(const char *name) {
    if (!name || strcmp(name, "acks") == 0) return 1;
    errno = told(1) ? ENOSPC : told(3) ? EIO : 0;
    return errno == 0;
}

#define PWRITE(symbol)                                                                          \
    ssize_t symbol(int fd, const void *bytes, size_t length, off_t offset) {                    \
        ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, #symbol);          \
        const char *name = name_of(fd);                                                         \
        if (!may_write(name)) return -1;                                                        \
        ssize_t written = real(fd, bytes, length, offset);                                      \
        if (name && written > 0) note('w', name, (uint64_t)offset, bytes, (uint64_t)written);   \
        return written;                                                                         \
    }

PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *bytes, size_t length) {
    const char *name = name_of(fd);
    if (!may_write(name)) return -1;
    off_t offset = name ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t written = real_write(fd, bytes, length);
    if (name && written > 0) note('w', name, (uint64_t)offset, bytes, (uint64_t)written);
    return written;
}

#define SYNC(symbol)                                                          \
    int symbol(int fd) {                                                      \
        int (*real)(int) = dlsym(RTLD_NEXT, #symbol);                         \
        const char *name = name_of(fd);                                       \
        if (name && told(2)) {                                                \
            note('f', name, 0, NULL, 0);                                      \
            errno = EIO;                                                      \
            return -1;                                                        \
        }                                                                     \
        int done = real(fd);                                                  \
        if (name && done == 0) note('s', name, 0, NULL, 0);                   \
        return done;                                                          \
    }

SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(symbol)                                                      \
    int symbol(int fd, off_t size) {                                          \
        int (*real)(int, off_t) = dlsym(RTLD_NEXT, #symbol);                  \
        const char *name = name_of(fd);                                       \
        int done = real(fd, size);                                            \
        if (name && done == 0) note('t', name, (uint64_t)size, NULL, 0);      \
        return done;                                                          \
    }

TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int unlink(const char *path) {
    int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
    int done = real(path);
    size_t length = disk ? strlen(disk) : 0;
    if (done == 0 && length && strncmp(path, disk, length) == 0 && strlen(path + length) < NAME)
        note('u', path + length, 0, NULL, 0);
    return done;
}
